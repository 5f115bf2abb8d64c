/* Walks the whole life cycle of the card's C interface, the way a program written against
 * the vendor's headers would. Prints a line per check, TAP-like; exits with 1 after a failure.
 *
 * usage: abi walk CONFIG ENGINE | abi loop COUNT | abi leave ENGINE
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/card.h"
#include "abi/check.h"
#include "abi/memory.h"
#include "abi/engine.h"

static const char *const EXPORTS[] = {
#include "abi/exports.h"
};

static void check_exports(void)
{
    int missing = 0;
    for (size_t i = 0; i < sizeof EXPORTS / sizeof *EXPORTS; i++) {
        if (!dlsym(RTLD_DEFAULT, EXPORTS[i])) {
            printf("# missing: %s\n", EXPORTS[i]);
            missing++;
        }
    }
    check(missing == 0, "every function of the vendor's library is exported");
    check(!dlsym(RTLD_DEFAULT, "axclrtRegisterDeviceStatusCallback"), "what 3.10.2 lacks is absent");
}

static void *second_thread(void *unused)
{
    void *dev = NULL;
    handle_t context = NULL;
    (void)unused;
    answers(axclrtSetDevice(1), 0, "a second thread sets the device");
    answers(axclrtGetCurrentContext(&context), 0x80300284, "but is bound to no context");
    answers(axclrtMalloc(&dev, 16, 0), 0x80300284, "so it cannot allocate");
    answers(axclrtSetCurrentContext((void *)4), 0x80300283, "an unknown context is refused");
    answers(axclrtSetCurrentContext(default_context), 0, "it takes the default context");
    answers(axclrtMalloc(&dev, 16, 0), 0, "and can allocate");
    answers(axclrtFree(dev), 0, "and free");
    answers(axclrtCreateContext(&context, 1), 0, "it creates a context");
    answers(axclrtDestroyContext(default_context), 0x80300282, "the default context stays");
    answers(axclrtDestroyContext(context), 0, "its own can be destroyed");
    answers(axclrtGetCurrentContext(&context), 0x80300284, "and leaves it without one");
    return NULL;
}

static int walk(const char *config, const char *engine)
{
    int32_t device = 0, version[3] = {0};
    uint32_t count = 0;
    device_list_t list;
    device_properties_t properties;
    pthread_t thread;
    void *leak = NULL;

    check_exports();
    answers(axclrtSetDevice(1), 0x80300184, "no device before axclInit");
    answers(axclrtGetVersion(&version[0], &version[1], &version[2]), 0, "version");
    check(version[0] == 3 && version[1] == 10 && version[2] == 2, "3.10.2");
    check(strcmp(axclrtGetSocName(), "AX650N") == 0, "chip");
    answers(axclInit(config), 0, "init");
    answers(axclInit(NULL), 0, "init again");
    answers(axclFinalize(), 0, "which is counted");
    answers(axclSetLogLevel(2), 0, "log level");
    axclAppLog(2, "walk", "tests/abi.c", 42, "%s %d %.2f %llu %s %c %ld", "seven", 7, 7.5, 1ull << 40, "args", 'x', -9L);
    axclAppLog(1, "walk", "tests/abi.c", 43, "too quiet %d", 1);
    answers(axclrtGetDeviceCount(&count), 0, "device count");
    answers(axclrtGetDeviceList(&list), 0, "device list");
    check(count == 1 && list.num == 1 && list.devices[0] == 1, "one device, named by its bus");
    answers(axclrtGetDevice(&device), 0x80300185, "none is bound yet");
    answers(axclrtSetDevice(0), 0x80300184, "an index is no device id");
    answers(axclrtResetDevice(1), 0x80300183, "not active yet");
    answers(axclrtCreateContext(&default_context, 1), 0x80300183, "so no context");
    answers(axclrtMalloc(&leak, 16, 0), 0x80300284, "and no memory");
    answers(axclrtGetDeviceBusInfo(1, NULL), 0x80300104, "what is not modelled is unsupported");
    answers(axclrtSetDevice(1), 0, "set the device");
    answers(axclrtGetCurrentContext(&default_context), 0, "this thread has the default context");
    pthread_create(&thread, NULL, second_thread, NULL);
    pthread_join(thread, NULL);
    answers(axclrtGetDevice(&device), 0, "the device is bound");
    answers(axclrtGetDeviceProperties(1, &properties), 0, "properties");
    check(properties.pci_bus == 1 && properties.total_cmm == 7208960 && properties.free_cmm == 7190528,
          "they fit the card");
    check(strcmp(properties.sw_version, axclrtGetFullVersion()) == 0, "and the version");
    check(properties.temperature > 20000 && properties.temperature < 90000, "and its temperature");
    answers(axclrtGetDevice(&device), 0x80300185, "reading them took the thread's binding");
    axclrtSetDevice(1);
    axclrtSetDevice(1);
    check_memory();
    check_streams();
    check_engine(engine);
    answers(axclrtMalloc(&leak, 0xc00, 0), 0, "a block nobody frees");
    int resets = 0;
    while (axclrtResetDevice(1) == 0) {
        resets++;
    }
    check(resets >= 1, "reset until the device is closed");
    answers(axclrtMalloc(&leak, 16, 0), 0x8030040c, "the channel is closed");
    answers(axclrtSetDevice(1), 0, "open it again");
    answers(axclrtMalloc(&leak, 16, 0), 0, "it works");
    answers(axclrtRebootDevice(1), 0, "reboot the card");
    answers(axclrtMemset(leak, 0, 16), 0x8030040c, "what was there is gone");
    answers(axclrtSetDevice(1), 0, "set the device after the reboot");
    check(free_cmm() == 7190528, "all memory is free");
    answers(axclFinalize(), 0, "finalize");
    answers(axclrtSetDevice(1), 0x80300184, "it is over");
    printf("1..%d\n", checks);
    return failures != 0;
}

/* Allocates and frees, each pair announced as a request and begun when told: by a character
 * from the input, or by its end. */
static int loop(int count)
{
    if (axclInit(NULL) || axclrtSetDevice(1)) {
        return 1;
    }
    for (int i = 0; i < count; i++) {
        void *dev = NULL;
        char bytes[100] = {0};
        getchar();
        axclAppLog(2, "request", __FILE__, __LINE__, "begin %llu", (unsigned long long)i);
        err_t failed = axclrtMalloc(&dev, 100, 0);
        printf("malloc %d: %#x\n", i, (uint32_t)failed);
        fflush(stdout);
        if (!failed) {
            axclrtMemcpy(dev, bytes, sizeof bytes, H2D);
            axclrtFree(dev);
        }
        axclAppLog(2, "request", __FILE__, __LINE__, "end %llu", (unsigned long long)i);
    }
    getchar();
    axclrtResetDevice(1);
    axclFinalize();
    return 0;
}

/* Leaves through exit() with work under way and nothing finalised. */
static int leave(const char *engine)
{
    model_t m;
    handle_t stream = NULL;
    memset(&m, 0, sizeof m);
    if (axclInit(NULL) || axclrtSetDevice(1) || axclrtEngineInit(0) || axclrtEngineLoadFromFile(engine, &m.id)
        || axclrtEngineGetIOInfo(m.id, &m.info) || axclrtEngineCreateContext(m.id, &m.context)
        || axclrtEngineCreateIO(m.info, &m.io) || axclrtCreateStream(&stream)) {
        return 1;
    }
    prepare(&m);
    for (int i = 0; i < 200; i++) {
        axclrtEngineExecuteAsync(m.id, m.context, 0, m.io, stream);
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "walk")) {
        return walk(argv[2], argv[3]);
    }
    if (argc == 3 && !strcmp(argv[1], "loop")) {
        return loop(atoi(argv[2]));
    }
    if (argc == 3 && !strcmp(argv[1], "leave")) {
        return leave(argv[2]);
    }
    return 2;
}
