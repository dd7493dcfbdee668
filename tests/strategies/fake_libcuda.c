/* A library in the place of libcuda.so.1: device memory is the host's, two kernels are known by name, and every call is written down.
   It shows that the bindings are called with the right names, orders and types, and nothing about a GPU. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT = 6, MOST = 64 };
typedef int Result;
typedef struct { int kind; char kernel[32]; uint64_t arguments[8]; uint64_t size; } Work;
typedef struct { Work works[MOST]; int count; } Graph;

static Graph *recording;
static uint64_t left = 1 << 20;

static int setting(const char *name, int otherwise) { const char *text = getenv(name); return text ? atoi(text) : otherwise; }
static int fails(const char *call) { const char *name = getenv("FAKE_FAILS"); return name && !strcmp(name, call); }
static void said(const char *call, long a, long b) {
  FILE *file = fopen(getenv("FAKE_LOG"), "a");
  fprintf(file, "%s %ld %ld\n", call, a, b);
  fclose(file);
}
static void perform(const Work *work) {
  if (work->kind == 0) { memset((void *)work->arguments[0], 0, work->size); return; }
  for (int i = 0; i < COUNT; i++) {
    const float *x = (const float *)work->arguments[0];
    if (!strcmp(work->kernel, "add")) ((float *)work->arguments[2])[i] = x[i] + ((const float *)work->arguments[1])[i];
    else ((float *)work->arguments[1])[i] = 2 * x[i];
  }
}
static void submit(const Work *work) { if (recording) recording->works[recording->count++] = *work; else perform(work); }

Result cuInit(unsigned flags) { return flags ? 1 : setting("FAKE_INIT", 0); }
Result cuDriverGetVersion(int *version) { *version = setting("FAKE_VERSION", 13000); return 0; }
Result cuDeviceGetCount(int *count) { *count = setting("FAKE_COUNT", 1); return 0; }
Result cuDeviceGet(int *device, int number) { *device = number + 3; return number; }
Result cuDeviceGetName(char *name, int length, int device) { strncpy(name, "NVIDIA H200", length); return device != 3; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 16 ? 132 : -1;
  return device != 3;
}
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 141000000000; return device != 3; }
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)0x1000; return device != 3; }
Result cuCtxSetCurrent(void *context) { return context != (void *)0x1000; }
Result cuCtxSynchronize(void) { said("settle", 0, 0); return 0; }
Result cuStreamCreate(void **stream, unsigned flags) { *stream = (void *)0x2000; return flags != 1; }
Result cuStreamSynchronize(void *stream) { said("synchronise", 0, 0); return stream != (void *)0x2000; }
Result cuModuleLoadData(void **module, const void *image) { *module = (void *)image; return memcmp(image, "\x7f" "ELF", 4) ? 200 : 0; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
  *function = !strcmp(name, "add") ? "add" : !strcmp(name, "double") ? "double" : NULL;
  return *function ? 0 : 500;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { said("allow", attribute, value); return function == NULL; }
Result cuMemAlloc_v2(uint64_t *address, size_t size) {
  if (size > left) return 2;
  left -= size;
  *address = (uint64_t)aligned_alloc(256, (size + 255) / 256 * 256);
  said("allocate", (long)size, 0);
  return 0;
}
Result cuMemFree_v2(uint64_t address) { free((void *)address); said("free", 0, 0); return 0; }
Result cuMemGetInfo_v2(size_t *free_bytes, size_t *total) { *free_bytes = left; *total = 1 << 20; return 0; }
Result cuMemcpyHtoDAsync_v2(uint64_t to, const void *source, size_t size, void *stream) {
  memcpy((void *)to, source, size);
  said("upload", (long)size, 0);
  return stream != (void *)0x2000;
}
Result cuMemcpyDtoHAsync_v2(void *to, uint64_t source, size_t size, void *stream) {
  memcpy(to, (void *)source, size);
  said("download", (long)size, 0);
  return fails("cuMemcpyDtoHAsync") ? 700 : stream != (void *)0x2000;
}
Result cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t source, size_t size, void *stream) {
  memcpy((void *)to, (void *)source, size);
  said("copy", (long)size, 0);
  return stream != (void *)0x2000;
}
Result cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream) {
  Work work = {0, "", {to}, size};
  submit(&work);
  said("fill", (long)size, value);
  return stream != (void *)0x2000;
}
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                      void *stream, void **parameters, void **extra) {
  Work work = {1, "", {0}, 0};
  strcpy(work.kernel, function);
  int count = !strcmp(function, "add") ? 3 : 2;
  for (int i = 0; i < count; i++) work.arguments[i] = *(uint64_t *)parameters[i];
  submit(&work);
  said("launch", gx + 10 * gy + 100 * gz, bx + 1000 * by + 10000 * bz);
  said("shared", shared, extra != NULL);
  return stream != (void *)0x2000;
}
Result cuStreamBeginCapture_v2(void *stream, int mode) {
  recording = calloc(1, sizeof(Graph));
  said("begin_capture", mode, 0);
  return stream != (void *)0x2000;
}
Result cuStreamEndCapture(void *stream, void **graph) { *graph = recording; recording = NULL; return stream != (void *)0x2000; }
Result cuGraphInstantiateWithFlags(void **ready, void *graph, unsigned long long flags) {
  *ready = malloc(sizeof(Graph));
  memcpy(*ready, graph, sizeof(Graph));
  return flags != 0;
}
Result cuGraphDestroy(void *graph) { free(graph); return 0; }
Result cuGraphExecDestroy(void *graph) { free(graph); said("drop", 0, 0); return 0; }
Result cuGraphLaunch(void *graph, void *stream) {
  for (int i = 0; i < ((Graph *)graph)->count; i++) perform(&((Graph *)graph)->works[i]);
  said("replay", ((Graph *)graph)->count, 0);
  return stream != (void *)0x2000;
}
Result cuDeviceGetPCIBusId(char *bus, int length, int device) { strncpy(bus, "0000:17:00.0", length); return device != 3; }
Result cuEventCreate(void **event, unsigned flags) { *event = malloc(sizeof(float)); said("event", flags, 0); return flags != 0; }
Result cuEventRecord(void *event, void *stream) {
  static float now = 0;
  *(float *)event = now += 2.5f;
  said("record", 0, 0);
  return stream != (void *)0x2000;
}
Result cuEventElapsedTime_v2(float *milliseconds, void *first, void *last) {
  *milliseconds = *(float *)last - *(float *)first;
  return 0;
}

Result cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status);
#define KNOWN(name) {#name, (void *)name}
static const struct { const char *name; void *function; } known[] = {
  KNOWN(cuInit), KNOWN(cuDriverGetVersion), KNOWN(cuDeviceGetCount), KNOWN(cuDeviceGet), KNOWN(cuDeviceGetName),
  KNOWN(cuDeviceGetAttribute), KNOWN(cuDeviceTotalMem_v2), KNOWN(cuDevicePrimaryCtxRetain), KNOWN(cuCtxSetCurrent),
  KNOWN(cuCtxSynchronize), KNOWN(cuStreamCreate), KNOWN(cuStreamSynchronize), KNOWN(cuModuleLoadData), KNOWN(cuModuleGetFunction),
  KNOWN(cuFuncSetAttribute), KNOWN(cuMemAlloc_v2), KNOWN(cuMemFree_v2), KNOWN(cuMemGetInfo_v2), KNOWN(cuMemcpyHtoDAsync_v2),
  KNOWN(cuMemcpyDtoHAsync_v2), KNOWN(cuMemcpyDtoDAsync_v2), KNOWN(cuMemsetD8Async), KNOWN(cuLaunchKernel),
  KNOWN(cuStreamBeginCapture_v2), KNOWN(cuStreamEndCapture), KNOWN(cuGraphInstantiateWithFlags), KNOWN(cuGraphDestroy),
  KNOWN(cuDeviceGetPCIBusId), KNOWN(cuEventCreate), KNOWN(cuEventRecord), KNOWN(cuEventElapsedTime_v2),
  KNOWN(cuGraphExecDestroy), KNOWN(cuGraphLaunch), KNOWN(cuGetProcAddress_v2),
};
Result cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
  (void)version; (void)flags;
  char newer[64];
  snprintf(newer, sizeof newer, "%s_v2", symbol);
  *function = NULL;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (!strcmp(known[i].name, symbol) || !strcmp(known[i].name, newer)) *function = known[i].function;
  if (!strcmp(symbol, "cuGraphInstantiate")) *function = (void *)cuGraphInstantiateWithFlags;
  if (status) *status = *function == NULL;
  return *function ? 0 : 500;
}
