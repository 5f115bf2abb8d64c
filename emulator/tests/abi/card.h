/* The card's C interface, declared here and not taken from the vendor's headers or ours, so
 * that a wrong layout or signature shows. */
#include <stddef.h>
#include <stdint.h>

typedef int32_t err_t;
typedef void *handle_t;

typedef struct {
    uint32_t num;
    int32_t devices[256];
} device_list_t;

typedef struct {
    char sw_version[64];
    uint64_t uid;
    uint32_t pci_domain, pci_bus, pci_device;
    int32_t temperature;
    uint32_t total_mem, free_mem, total_cmm, free_cmm, cpu_loading, npu_loading;
    uint32_t reserved[32];
} device_properties_t;

typedef struct {
    int32_t count;
    int32_t dims[32];
} dims_t;

_Static_assert(sizeof(device_list_t) == 1028, "device list");
_Static_assert(sizeof(device_properties_t) == 240, "device properties");
_Static_assert(offsetof(device_properties_t, uid) == 64, "uid");
_Static_assert(offsetof(device_properties_t, temperature) == 84, "temperature");
_Static_assert(offsetof(device_properties_t, free_cmm) == 100, "free cmm");
_Static_assert(offsetof(device_properties_t, reserved) == 112, "reserved");
_Static_assert(sizeof(dims_t) == 132, "dims");

err_t axclInit(const char *json);
err_t axclFinalize(void);
err_t axclSetLogLevel(int32_t level);
void axclAppLog(int32_t level, const char *func, const char *file, uint32_t line, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
err_t axclrtGetVersion(int32_t *major, int32_t *minor, int32_t *patch);
const char *axclrtGetFullVersion(void);
const char *axclrtGetSocName(void);
err_t axclrtSetDevice(int32_t id);
err_t axclrtResetDevice(int32_t id);
err_t axclrtGetDevice(int32_t *id);
err_t axclrtGetDeviceCount(uint32_t *count);
err_t axclrtGetDeviceList(device_list_t *list);
err_t axclrtSynchronizeDevice(void);
err_t axclrtGetDeviceProperties(int32_t id, device_properties_t *properties);
err_t axclrtRebootDevice(int32_t id);
err_t axclrtGetDeviceBusInfo(int32_t id, void *info);
err_t axclrtCreateContext(handle_t *context, int32_t id);
err_t axclrtDestroyContext(handle_t context);
err_t axclrtSetCurrentContext(handle_t context);
err_t axclrtGetCurrentContext(handle_t *context);
err_t axclrtGetDefaultStream(handle_t context, handle_t *stream);
err_t axclrtCreateStream(handle_t *stream);
err_t axclrtDestroyStream(handle_t stream);
err_t axclrtSynchronizeStream(handle_t stream);
err_t axclrtSynchronizeStreamWithTimeout(handle_t stream, int32_t ms);
err_t axclrtCreateEvent(handle_t *event);
err_t axclrtDestroyEvent(handle_t event);
err_t axclrtRecordEvent(handle_t event, handle_t stream);
err_t axclrtStreamWaitEvent(handle_t stream, handle_t event);
err_t axclrtMalloc(void **dev, size_t size, int policy);
err_t axclrtFree(void *dev);
err_t axclrtMemFlush(void *dev, size_t size);
err_t axclrtMallocHost(void **host, size_t size);
err_t axclrtFreeHost(void *host);
err_t axclrtMemset(void *dev, uint8_t value, size_t size);
err_t axclrtMemsetAsync(void *dev, uint8_t value, size_t size, handle_t stream);
err_t axclrtMemcpy(void *dst, const void *src, size_t size, int kind);
err_t axclrtMemcpyAsync(void *dst, const void *src, size_t size, int kind, handle_t stream);
err_t axclrtMemcmp(const void *a, const void *b, size_t size);
err_t axclrtEngineInit(int kind);
err_t axclrtEngineGetVNpuKind(int *kind);
err_t axclrtEngineFinalize(void);
err_t axclrtEngineLoadFromFile(const char *path, uint64_t *id);
err_t axclrtEngineLoadFromMem(const void *dev, uint64_t size, uint64_t *id);
err_t axclrtEngineUnload(uint64_t id);
const char *axclrtEngineGetModelCompilerVersion(uint64_t id);
err_t axclrtEngineSetContextAffinity(uint64_t id, uint64_t context, uint32_t set);
err_t axclrtEngineGetUsage(const char *path, int64_t *system, int64_t *cmm);
err_t axclrtEngineGetIOInfo(uint64_t id, handle_t *info);
err_t axclrtEngineDestroyIOInfo(handle_t info);
err_t axclrtEngineGetShapeGroupsCount(handle_t info, int32_t *count);
uint32_t axclrtEngineGetNumInputs(handle_t info);
uint32_t axclrtEngineGetNumOutputs(handle_t info);
uint64_t axclrtEngineGetInputSizeByIndex(handle_t info, uint32_t group, uint32_t index);
uint64_t axclrtEngineGetOutputSizeByIndex(handle_t info, uint32_t group, uint32_t index);
const char *axclrtEngineGetInputNameByIndex(handle_t info, uint32_t index);
int32_t axclrtEngineGetInputIndexByName(handle_t info, const char *name);
int32_t axclrtEngineGetOutputIndexByName(handle_t info, const char *name);
err_t axclrtEngineGetInputDims(handle_t info, uint32_t group, uint32_t index, dims_t *dims);
int32_t axclrtEngineGetInputDataType(handle_t info, uint32_t index, int *type);
err_t axclrtEngineCreateIO(handle_t info, handle_t *io);
err_t axclrtEngineDestroyIO(handle_t io);
err_t axclrtEngineSetInputBufferByIndex(handle_t io, uint32_t index, const void *dev, uint64_t size);
err_t axclrtEngineSetOutputBufferByIndex(handle_t io, uint32_t index, const void *dev, uint64_t size);
err_t axclrtEngineGetInputBufferByIndex(handle_t io, uint32_t index, void **dev, uint64_t *size);
err_t axclrtEngineSetInputBufferByName(handle_t io, const char *name, const void *dev, uint64_t size);
err_t axclrtEngineCreateContext(uint64_t id, uint64_t *context);
err_t axclrtEngineExecute(uint64_t id, uint64_t context, uint32_t group, handle_t io);
err_t axclrtEngineExecuteAsync(uint64_t id, uint64_t context, uint32_t group, handle_t io, handle_t stream);

enum { H2H, H2D, D2H, D2D };
