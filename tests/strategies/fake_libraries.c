/* A library in the place of libcublasLt.so.13 and of libcudnn.so.9: descriptors are kept as they are set, and f32 is computed from
   nothing but them, on host addresses. It shows that the bindings say what they mean to, in the right order and types, and nothing
   about a GPU. FAKE_FAILS is a function that fails, FAKE_STATUS with which status. The numbers are those of NVIDIA's headers. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int fails(const char *name) {
  const char *wanted = getenv("FAKE_FAILS"), *status = getenv("FAKE_STATUS");
  return wanted && !strcmp(wanted, name) ? atoi(status ? status : "13") : 0;
}
static long live;
long fake_live(void) { return live; }
static void *made(size_t size) { live++; return calloc(1, size); }
static int gone(void *one) { live--; free(one); return 0; }

/* cuBLASLt */
typedef struct { int32_t compute, scale, transposed[2], bias_type; uint32_t epilogue; uint64_t bias; } Operation;
typedef struct { int type, batches; uint64_t rows, columns; int64_t leading, stride; } Layout;
typedef struct { uint64_t workspace; uint32_t schemes, aligned[4]; } Preference;
typedef struct { uint64_t algorithm[8]; size_t workspace; int state; float waves; int reserved[4]; } Heuristic;

size_t cublasLtGetVersion(void) { return 131000; }
const char *cublasLtGetStatusName(int status) {
  return status == 15 ? "CUBLAS_STATUS_NOT_SUPPORTED" : status == 7 ? "CUBLAS_STATUS_INVALID_VALUE" : "CUBLAS_STATUS_EXECUTION_FAILED";
}
int cublasLtCreate(void **handle) { *handle = made(8); return fails("cublasLtCreate"); }
int cublasLtDestroy(void *handle) { return gone(handle); }
int cublasLtMatmulDescCreate(void **made_one, int compute, int scale) {
  Operation *one = *made_one = made(sizeof(Operation));
  one->compute = compute, one->scale = scale, one->epilogue = 1, one->bias_type = -1;
  return 0;
}
int cublasLtMatmulDescDestroy(void *one) { return gone(one); }
static int set(void *place, size_t wanted, const void *value, size_t size) {
  if (size != wanted) return 7;
  memcpy(place, value, size);
  return 0;
}
int cublasLtMatmulDescSetAttribute(Operation *one, int attribute, const void *value, size_t size) {
  switch (attribute) {
    case 3: return set(&one->transposed[0], 4, value, size);
    case 4: return set(&one->transposed[1], 4, value, size);
    case 7: return set(&one->epilogue, 4, value, size);
    case 8: return set(&one->bias, 8, value, size);
    case 26: return set(&one->bias_type, 4, value, size);
    default: return 7;
  }
}
int cublasLtMatrixLayoutCreate(void **made_one, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  Layout *one = *made_one = made(sizeof(Layout));
  one->type = type, one->rows = rows, one->columns = columns, one->leading = leading, one->batches = 1;
  return 0;
}
int cublasLtMatrixLayoutDestroy(void *one) { return gone(one); }
int cublasLtMatrixLayoutSetAttribute(Layout *one, int attribute, const void *value, size_t size) {
  return attribute == 5 ? set(&one->batches, 4, value, size) : attribute == 6 ? set(&one->stride, 8, value, size) : 7;
}
int cublasLtMatmulPreferenceCreate(void **one) { *one = made(sizeof(Preference)); return 0; }
int cublasLtMatmulPreferenceDestroy(void *one) { return gone(one); }
int cublasLtMatmulPreferenceSetAttribute(Preference *one, int attribute, const void *value, size_t size) {
  if (attribute == 1) return set(&one->workspace, 8, value, size);
  if (attribute == 3) return set(&one->schemes, 4, value, size);
  return attribute >= 5 && attribute <= 8 ? set(&one->aligned[attribute - 5], 4, value, size) : 7;
}
int cublasLtMatmulAlgoGetHeuristic(void *handle, Operation *op, Layout *a, Layout *b, Layout *c, Layout *d, Preference *preference,
                                   int most, Heuristic *results, int *found) {
  int status = fails("cublasLtMatmulAlgoGetHeuristic");
  if (status) return status;
  if (!handle || op->compute != 68 || op->scale != 0 || c != d || preference->schemes & 4 || (op->epilogue & 4 && !op->bias)) return 7;
  for (int i = 0; i < 4; i++) if (preference->aligned[i] < 2) return 7;
  *found = most < 3 ? most : 3; /* of which the second does not work */
  for (int i = 0; i < *found; i++) {
    memset(&results[i], 0, sizeof *results);
    results[i].algorithm[7] = 1000 + i, results[i].workspace = preference->workspace / 2, results[i].state = i == 1 ? 15 : 0;
  }
  return 0;
}
int cublasLtMatmul(void *handle, Operation *op, const float *alpha, const float *a, Layout *la, const float *b, Layout *lb, const float *beta,
                   const float *c, Layout *lc, float *d, Layout *ld, const uint64_t *algorithm, char *scratch, size_t size, void *stream) {
  int status = fails("cublasLtMatmul");
  if (status) return status;
  if (!handle || *alpha != 1 || *beta != 0 || c != d || lc != ld || stream != (void *)77) return 7;
  if (algorithm[7] != 1000 && algorithm[7] != 1002) return 7;
  if (la->type || lb->type || ld->type || ((uintptr_t)scratch & 255)) return 7;
  if (op->epilogue & 4 && op->bias_type != 0) return 7;
  uint64_t rows = ld->rows, columns = ld->columns, depth = op->transposed[0] ? la->rows : la->columns;
  if ((op->transposed[0] ? la->columns : la->rows) != rows || la->batches != ld->batches || lb->batches != ld->batches) return 7;
  if ((op->transposed[1] ? lb->columns : lb->rows) != depth || (op->transposed[1] ? lb->rows : lb->columns) != columns) return 7;
  if (la->leading < (int64_t)la->rows || lb->leading < (int64_t)lb->rows || ld->leading < (int64_t)rows) return 7;
  if (scratch) memset(scratch, 0xEE, size);
  for (int batch = 0; batch < ld->batches; batch++)
    for (uint64_t row = 0; row < rows; row++)
      for (uint64_t column = 0; column < columns; column++) {
        float sum = 0;
        for (uint64_t k = 0; k < depth; k++)
          sum += a[batch * la->stride + (op->transposed[0] ? k + row * la->leading : row + k * la->leading)] *
                 b[batch * lb->stride + (op->transposed[1] ? column + k * lb->leading : k + column * lb->leading)];
        if (op->epilogue & 4) sum += ((const float *)op->bias)[row];
        if (op->epilogue & 2 && sum < 0) sum = 0;
        d[batch * ld->stride + row + column * ld->leading] = sum;
      }
  return 0;
}

/* cuDNN */
typedef struct { int type, extents[4], strides[4]; } Tensor;
typedef struct { int type, format, extents[4]; } Filter;
typedef struct { int pads[2], strides[2], dilations[2], mode, compute, groups, math; } Convolution;
typedef struct { int mode, nan; double ceiling; } Activation;
typedef struct { void *stream; } Handle;

size_t cudnnGetVersion(void) { return 92801; }
const char *cudnnGetErrorString(int status) {
  return status == 3000 ? "CUDNN_STATUS_NOT_SUPPORTED" : status == 2000 ? "CUDNN_STATUS_BAD_PARAM" : "CUDNN_STATUS_EXECUTION_FAILED";
}
int cudnnCreate(void **handle) { *handle = made(sizeof(Handle)); return fails("cudnnCreate"); }
int cudnnDestroy(void *handle) { return gone(handle); }
int cudnnSetStream(Handle *handle, void *stream) { handle->stream = stream; return 0; }
int cudnnCreateTensorDescriptor(void **one) { *one = made(sizeof(Tensor)); return 0; }
int cudnnCreateFilterDescriptor(void **one) { *one = made(sizeof(Filter)); return 0; }
int cudnnCreateConvolutionDescriptor(void **one) { *one = made(sizeof(Convolution)); return 0; }
int cudnnCreateActivationDescriptor(void **one) { *one = made(sizeof(Activation)); return 0; }
int cudnnDestroyTensorDescriptor(void *one) { return gone(one); }
int cudnnDestroyFilterDescriptor(void *one) { return gone(one); }
int cudnnDestroyConvolutionDescriptor(void *one) { return gone(one); }
int cudnnDestroyActivationDescriptor(void *one) { return gone(one); }
int cudnnSetTensor4dDescriptorEx(Tensor *one, int type, int n, int c, int h, int w, int sn, int sc, int sh, int sw) {
  *one = (Tensor){type, {n, c, h, w}, {sn, sc, sh, sw}};
  return 0;
}
int cudnnSetTensor4dDescriptor(Tensor *one, int format, int type, int n, int c, int h, int w) {
  return format ? 2000 : cudnnSetTensor4dDescriptorEx(one, type, n, c, h, w, c * h * w, h * w, w, 1);
}
int cudnnSetFilter4dDescriptor(Filter *one, int type, int format, int k, int c, int h, int w) {
  *one = (Filter){type, format, {k, c, h, w}};
  return format ? 2000 : 0;
}
int cudnnSetConvolution2dDescriptor(Convolution *one, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int compute) {
  *one = (Convolution){{ph, pw}, {sh, sw}, {dh, dw}, mode, compute, 1, 0};
  return mode == 1 && compute == 0 ? 0 : 2000;
}
int cudnnSetConvolutionGroupCount(Convolution *one, int groups) { one->groups = groups; return 0; }
int cudnnSetConvolutionMathType(Convolution *one, int math) { one->math = math; return 0; }
int cudnnSetActivationDescriptor(Activation *one, int mode, int nan, double ceiling) { *one = (Activation){mode, nan, ceiling}; return 0; }
int cudnnGetConvolutionForwardWorkspaceSize(void *handle, Tensor *x, Filter *w, Convolution *how, Tensor *y, int algorithm, size_t *size) {
  *size = algorithm == 0 ? 0 : algorithm == 4 ? (size_t)1 << 40 : 256;
  return handle && x && w && how && y ? fails("cudnnGetConvolutionForwardWorkspaceSize") : 2000;
}
static int convolve(Handle *handle, const float *alpha, Tensor *lx, const float *x, Filter *lw, const float *w, Convolution *how, int algorithm,
                    char *scratch, size_t size, const float *beta, const float *bias, int relu, Tensor *ly, float *y) {
  if (*alpha != 1 || *beta != 0 || handle->stream != (void *)77 || algorithm > 7 || (algorithm != 0) != (size == 256)) return 2000;
  if (lx->type || lw->type || ly->type || how->math != 3 || lw->extents[1] * how->groups != lx->extents[1]) return 2000;
  if (lw->extents[0] != ly->extents[1] || lx->extents[0] != ly->extents[0] || (size && !scratch)) return 2000;
  if (scratch) memset(scratch, 0xEE, size);
  int width = lw->extents[1], count = lw->extents[0] / how->groups, p[4], out[2];
  for (int axis = 0; axis < 2; axis++) {
    out[axis] = (lx->extents[2 + axis] + 2 * how->pads[axis] - how->dilations[axis] * (lw->extents[2 + axis] - 1) - 1) / how->strides[axis] + 1;
    if (out[axis] != ly->extents[2 + axis]) return 2000;
  }
  for (p[0] = 0; p[0] < ly->extents[0]; p[0]++) for (p[1] = 0; p[1] < ly->extents[1]; p[1]++)
  for (p[2] = 0; p[2] < out[0]; p[2]++) for (p[3] = 0; p[3] < out[1]; p[3]++) {
    float sum = 0;
    for (int c = 0; c < width; c++) for (int r = 0; r < lw->extents[2]; r++) for (int s = 0; s < lw->extents[3]; s++) {
      int row = p[2] * how->strides[0] + r * how->dilations[0] - how->pads[0], column = p[3] * how->strides[1] + s * how->dilations[1] - how->pads[1];
      if (row < 0 || row >= lx->extents[2] || column < 0 || column >= lx->extents[3]) continue;
      int channel = p[1] / count * width + c;
      sum += x[p[0] * lx->strides[0] + channel * lx->strides[1] + row * lx->strides[2] + column * lx->strides[3]] *
             w[((p[1] * width + c) * lw->extents[2] + r) * lw->extents[3] + s];
    }
    if (bias) sum += bias[p[1]];
    y[p[0] * ly->strides[0] + p[1] * ly->strides[1] + p[2] * ly->strides[2] + p[3] * ly->strides[3]] = relu && sum < 0 ? 0 : sum;
  }
  return 0;
}
int cudnnConvolutionForward(Handle *handle, const float *alpha, Tensor *lx, const float *x, Filter *lw, const float *w, Convolution *how,
                            int algorithm, char *scratch, size_t size, const float *beta, Tensor *ly, float *y) {
  int status = fails("cudnnConvolutionForward");
  return status ? status : convolve(handle, alpha, lx, x, lw, w, how, algorithm, scratch, size, beta, NULL, 0, ly, y);
}
int cudnnConvolutionBiasActivationForward(Handle *handle, const float *alpha, Tensor *lx, const float *x, Filter *lw, const float *w,
                                          Convolution *how, int algorithm, char *scratch, size_t size, const float *beta, Tensor *lz,
                                          const float *z, Tensor *lb, const float *bias, Activation *activation, Tensor *ly, float *y) {
  if (lz != ly || z != y || lb->extents[1] != ly->extents[1] || lb->extents[0] * lb->extents[2] * lb->extents[3] != 1) return 2000;
  if (activation->nan != 1 || (activation->mode != 1 && !(activation->mode == 5 && algorithm == 1))) return 2000;
  return convolve(handle, alpha, lx, x, lw, w, how, algorithm, scratch, size, beta, bias, activation->mode == 1, ly, y);
}
