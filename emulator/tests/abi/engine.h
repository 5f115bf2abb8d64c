/* Engines: loading, asking, binding, running. */
#include "model.h"

static int all_finite(void *dev, size_t size)
{
    uint16_t *values = malloc(size);
    int good = 1;
    axclrtMemcpy(values, dev, size, D2H);
    for (size_t i = 0; i < size / 2; i++) {
        good = good && (values[i] & 0x7f80) != 0x7f80;
    }
    free(values);
    return good;
}

static void check_io(model_t *m)
{
    int32_t groups = 0;
    int type = 0;
    dims_t dims;
    void *at = NULL;
    uint64_t size = 0;
    uint32_t input = (uint32_t)m->input;
    answers(axclrtEngineGetShapeGroupsCount(m->info, &groups), 0, "shape groups");
    check(groups >= 1, "there is at least one");
    check(axclrtEngineGetInputSizeByIndex(m->info, 0, 99) == 0xffffffff80300781, "sizes fail sign-extended");
    check(axclrtEngineGetInputSizeByIndex(m->info, 999, 0) == 0xffffffff80300781, "for groups as well");
    check(axclrtEngineGetNumInputs(NULL) == 0x80300702, "no information, no number");
    check(strcmp(axclrtEngineGetInputNameByIndex(m->info, input), "input") == 0, "names");
    check(axclrtEngineGetInputNameByIndex(m->info, 99) == NULL, "no name out of range");
    answers(axclrtEngineGetInputIndexByName(m->info, "nothing"), 0x80300703, "unknown names");
    answers(axclrtEngineGetInputDims(m->info, 0, input, &dims), 0, "dimensions");
    uint64_t bytes = 2;
    for (int32_t i = 0; i < dims.count; i++) {
        bytes *= (uint64_t)dims.dims[i];
    }
    check(bytes == axclrtEngineGetInputSizeByIndex(m->info, 0, input), "they agree with the size");
    answers(axclrtEngineGetInputDims(m->info, 0, 99, &dims), 0x80300781, "dimensions out of range");
    answers(axclrtEngineGetInputDataType(m->info, input, &type), 0, "data type");
    check(type == BF16, "it is bf16");
    answers(axclrtEngineGetInputDataType(m->info, 99, &type), 0x80300703, "data type out of range");
    answers(axclrtEngineSetInputBufferByIndex(m->io, 99, m->in[0], 1), 0x80300703, "binding out of range");
    answers(axclrtEngineSetInputBufferByIndex(m->io, 0, NULL, 1), 0x80300702, "binding null");
    answers(axclrtEngineSetInputBufferByIndex(m->io, 0, m->in[0], 0), 0x80300703, "binding nothing");
    answers(axclrtEngineSetInputBufferByName(m->io, "nothing", (void *)0x10, 7), 0, "binding by any name");
    answers(axclrtEngineGetInputBufferByIndex(m->io, 0, &at, &size), 0, "where the first is bound");
    check(at == (void *)0x10 && size == 7, "names always mean the first tensor");
    bind(m);
}

static void check_execute(model_t *m)
{
    uint32_t input = (uint32_t)m->input, output = (uint32_t)m->output;
    uint64_t in_size = axclrtEngineGetInputSizeByIndex(m->info, 0, input);
    uint64_t size = axclrtEngineGetOutputSizeByIndex(m->info, 0, output);
    handle_t stream = NULL, empty = NULL;
    void *keep = NULL;
    axclrtMalloc(&keep, size, 0);
    axclrtCreateStream(&stream);
    answers(axclrtEngineExecute(m->id, m->context, 0, m->io), 0, "execute");
    check(all_finite(m->out[output], size), "its output is finite");
    axclrtMemcpy(keep, m->out[output], size, D2D);
    axclrtMemset(m->out[output], 0xff, size);
    answers(axclrtEngineExecuteAsync(m->id, m->context, 0, m->io, stream), 0, "execute asynchronously");
    axclrtEngineSetOutputBufferByIndex(m->io, output, (void *)0x10, size);
    answers(axclrtSynchronizeStream(stream), 0, "synchronise");
    answers(axclrtMemcmp(keep, m->out[output], size), 0, "the same output, whatever is bound meanwhile");

    answers(axclrtEngineExecute(m->id, m->context, 0, m->io), 0x8030070c, "a host address fails");
    axclrtMemset(m->out[output], 0x11, size);
    answers(axclrtEngineExecuteAsync(m->id, m->context, 0, m->io, stream), 0, "silently when asynchronous");
    answers(axclrtSynchronizeStream(stream), 0, "also when synchronised");
    uint8_t stale = 0;
    axclrtMemcpy(&stale, m->out[output], 1, D2H);
    check(stale == 0x11, "the output stays stale");
    axclrtEngineSetOutputBufferByIndex(m->io, output, m->out[output], size - 2);
    answers(axclrtEngineExecute(m->id, m->context, 0, m->io), 0x8030070c, "a wrong size fails");
    bind(m);
    answers(axclrtEngineExecute(m->id, m->context, 999, m->io), 0x8030070c, "an unknown group fails");
    answers(axclrtEngineExecute(m->id, m->context + 1, 0, m->io), 0x8030070c, "an unknown context fails");
    axclrtEngineCreateIO(m->info, &empty);
    answers(axclrtEngineExecute(m->id, m->context, 0, empty), 0x8030070c, "unbound tensors fail");
    answers(axclrtEngineDestroyIO(empty), 0, "destroy the IO");
    if (size == in_size) {
        axclrtEngineSetOutputBufferByIndex(m->io, output, m->in[input], size);
        answers(axclrtEngineExecute(m->id, m->context, 0, m->io), 0, "reading what it writes goes through");
        check(!all_finite(m->in[input], size), "with garbage");
    }
    axclrtDestroyStream(stream);
    axclrtFree(keep);
}

static void *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size);
    if (fread(bytes, 1, *size, file) != *size) {
        abort();
    }
    fclose(file);
    return bytes;
}

static void check_engine(const char *path)
{
    model_t m;
    uint64_t id = 77;
    int kind = 5;
    int64_t system = 0, cmm = 0;
    memset(&m, 0, sizeof m);
    uint32_t before = free_cmm();
    answers(axclrtEngineLoadFromFile(path, &id), 0x8030070c, "no loading before EngineInit");
    answers(axclrtEngineInit(0), 0, "EngineInit");
    answers(axclrtEngineGetVNpuKind(&kind), 0, "kind of the virtual NPU");
    check(kind == 0, "as initialised");
    answers(axclrtEngineLoadFromFile("/nonexistent/l0.axmodel", &id), 0x80300703, "a missing file");
    answers(axclrtEngineLoadFromFile("/tmp", &id), 0x80300703, "a directory");
    struct rlimit files, none;
    getrlimit(RLIMIT_NOFILE, &files);
    none = files;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none);
    answers(axclrtEngineLoadFromFile(path, &id), 0, "a file that cannot be opened");
    setrlimit(RLIMIT_NOFILE, &files);
    check(id == 77, "leaves the id alone");
    answers(axclrtEngineLoadFromFile("/proc/self/exe", &id), 0x8030070c, "a file that is no engine");
    check(free_cmm() == before, "failed loads leave nothing behind");
    answers(axclrtEngineLoadFromFile(path, &m.id), 0, "load an engine");
    if (!m.id) {
        return;
    }
    struct stat st;
    stat(path, &st);
    uint32_t taken = before - free_cmm();
    check(taken >= (uint32_t)(st.st_size / 1024 * 13 / 10) && taken < (uint32_t)(st.st_size / 1024 * 13 / 10 + 8),
          "it takes 1.3 times its file");
    answers(axclrtEngineGetUsage(path, &system, &cmm), 0, "its usage");
    check(cmm >= st.st_size && cmm < st.st_size * 2, "is plausible");
    answers(axclrtEngineGetIOInfo(m.id, &m.info), 0, "IO information");
    answers(axclrtEngineCreateContext(m.id, &m.context), 0, "engine context");
    answers(axclrtEngineCreateIO(m.info, &m.io), 0, "IO object");
    check(strlen(axclrtEngineGetModelCompilerVersion(m.id)) > 0, "compiler version");
    answers(axclrtEngineSetContextAffinity(m.id, m.context, 1), 0x80300704, "no affinity of contexts");
    prepare(&m);
    check_io(&m);
    check_execute(&m);
    answers(axclrtEngineUnload(0), 0x80300703, "unload nothing");
    answers(axclrtEngineUnload(m.id), 0, "unload");
    answers(axclrtEngineExecute(m.id, m.context, 0, m.io), 0x8030070c, "it is gone");

    size_t size = 0;
    void *bytes = read_file(path, &size), *dev = NULL;
    answers(axclrtEngineLoadFromMem(bytes, size, &id), 0x8030070c, "loading from host memory fails");
    axclrtMalloc(&dev, size, 0);
    axclrtMemcpy(dev, bytes, size, H2D);
    answers(axclrtEngineLoadFromMem(dev, size, &id), 0, "loading from card memory");
    answers(axclrtEngineUnload(id), 0, "unload it");
    axclrtFree(dev);
    free(bytes);
    for (uint32_t i = 0; i < m.inputs; i++) {
        axclrtFree(m.in[i]);
    }
    for (uint32_t i = 0; i < m.outputs; i++) {
        axclrtFree(m.out[i]);
    }
    answers(axclrtEngineDestroyIO(m.io), 0, "destroy the IO object");
    answers(axclrtEngineDestroyIOInfo(m.info), 0, "destroy the information");
    check(free_cmm() == before, "all card memory is free again");
    answers(axclrtEngineFinalize(), 0, "EngineFinalize");
}
