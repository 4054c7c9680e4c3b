/* The HIP runtime (libamdhip64) of an emulated GPU: it gives out memory and computes nothing.
 *
 * The kernel's topology of GPUs describes the device, as on a real machine; `.ci/with-migraphx --gpu` writes that file.
 * As on a discrete GPU, the host must not touch device memory: an access is a segmentation fault. Since nothing is ever
 * computed, copies to the device store nothing, and copies from it give zeros. */
#include "emulated_gpu.h"

#include <hip/hip_runtime_api.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NODE "/sys/class/kfd/kfd/topology/nodes/1/properties"
#define PAGE 4096ull
#define SPACE (16ull << 40) /* addresses are never given out twice, so there are many */

static char *device; /* the first address of the device's memory; the host must not access it */
static atomic_ullong used;

__attribute__((constructor)) static void reserve_addresses(void) {
    device = mmap(NULL, SPACE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (device == MAP_FAILED) {
        perror("emulated GPU: address space");
        abort();
    }
}

static int on_device(const void *address) {
    return (const char *)address >= device && (const char *)address < device + SPACE;
}

hipError_t hipMalloc(void **address, size_t size) {
    unsigned long long pages = size / PAGE + 1, begin = atomic_fetch_add(&used, pages * PAGE);
    if (begin + pages * PAGE > SPACE) return hipErrorOutOfMemory;
    *address = device + begin;
    return hipSuccess;
}

hipError_t hipFree(void *address) {
    if (!on_device(address)) free(address); /* of hipHostMalloc */
    return hipSuccess;
}

hipError_t hipHostMalloc(void **address, size_t size, unsigned flags) {
    *address = calloc(1, size);
    return *address ? hipSuccess : hipErrorOutOfMemory;
}

hipError_t hipHostGetDevicePointer(void **seen_by_device, void *address, unsigned flags) {
    *seen_by_device = address;
    return hipSuccess;
}

hipError_t hipPointerGetAttributes(hipPointerAttribute_t *attributes, const void *address) {
    if (!on_device(address)) return hipErrorInvalidValue;
    *attributes = (hipPointerAttribute_t){.type = hipMemoryTypeDevice, .devicePointer = (void *)address};
    return hipSuccess;
}

hipError_t hipMemcpy(void *to, const void *from, size_t size, hipMemcpyKind kind) {
    if (on_device(to)) return hipSuccess;
    if (on_device(from))
        memset(to, 0, size);
    else
        memmove(to, from, size);
    return hipSuccess;
}

hipError_t hipMemcpyAsync(void *to, const void *from, size_t size, hipMemcpyKind kind, hipStream_t stream) {
    return hipMemcpy(to, from, size, kind);
}

/* Return the decimal digits of the architecture: major * 10000 + minor * 100 + stepping; 0 without a device. */
static int architecture(void) {
    int version = 0;
    char line[128];
    FILE *file = fopen(NODE, "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "gfx_target_version %d", &version);
    if (file) fclose(file);
    return version;
}

hipError_t hipGetDevice(int *number) {
    *number = 0;
    return architecture() ? hipSuccess : hipErrorNoDevice;
}

hipError_t hipGetDeviceProperties(hipDeviceProp_t *properties, int number) {
    int version = architecture(), major = version / 10000, minor = version / 100 % 100;
    if (!version) return hipErrorNoDevice;
    if (number) return hipErrorInvalidDevice;
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "emulated GPU");
    snprintf(properties->gcnArchName, sizeof properties->gcnArchName, "gfx%d%x%x%s", major, minor, version % 100,
             major == 9 ? ":sramecc+:xnack-" : "");
    properties->major = major;
    properties->minor = minor;
    properties->warpSize = major == 9 ? 64 : 32;
    properties->multiProcessorCount = major == 9 ? 304 : 48;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->sharedMemPerBlock = 65536;
    properties->totalGlobalMem = 64ull << 30;
    return hipSuccess;
}

/* A code object must be one of the emulated compiler, for this architecture. */
hipError_t hipModuleLoadData(hipModule_t *module, const void *image) {
    const struct code_object *code = image;
    hipDeviceProp_t properties;
    hipError_t error = hipGetDeviceProperties(&properties, 0);
    if (error) return error;
    if (strncmp(code->magic, CODE_OBJECT, sizeof code->magic)) return hipErrorInvalidImage;
    if (strncmp(code->architecture, properties.gcnArchName, sizeof code->architecture)) return hipErrorNoBinaryForGpu;
    *module = NOTHING;
    return hipSuccess;
}

hipError_t hipModuleGetFunction(hipFunction_t *function, hipModule_t module, const char *name) {
    *function = NOTHING;
    return hipSuccess;
}

hipError_t hipStreamCreateWithFlags(hipStream_t *stream, unsigned flags) {
    *stream = NOTHING;
    return hipSuccess;
}

hipError_t hipEventCreate(hipEvent_t *event) {
    *event = NOTHING;
    return hipSuccess;
}

hipError_t hipEventCreateWithFlags(hipEvent_t *event, unsigned flags) {
    return hipEventCreate(event);
}

hipError_t hipEventElapsedTime(float *milliseconds, hipEvent_t begin, hipEvent_t end) {
    *milliseconds = 0.01f;
    return hipSuccess;
}

const char *hipGetErrorString(hipError_t error) {
    switch (error) {
    case hipErrorOutOfMemory: return "out of memory";
    case hipErrorNoDevice: return "no ROCm-capable device is detected";
    case hipErrorInvalidImage: return "device kernel image is invalid";
    case hipErrorNoBinaryForGpu: return "no kernel image is available for execution on the device";
    default: return "error of the emulated GPU";
    }
}
