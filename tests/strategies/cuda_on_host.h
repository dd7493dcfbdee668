// CUDA's words on a CPU, for sources that use no more of them: blocks one after another, the threads of a block as threads of the
// host where they wait for one another. Sums and products follow C++ here, so what is shown is that a source says the right thing.
#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <math.h>
#include <thread>
#include <type_traits>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(size) alignas(size)
using std::isfinite;
using std::isinf;
using std::isnan;

struct Position { int x, y, z; };
static thread_local Position blockIdx, threadIdx;
static thread_local std::barrier<>* together = nullptr;
static inline void __syncthreads() { if (together) together->arrive_and_wait(); }

// What a kernel says of the places that it reads and writes at once is looked at; `kernels_of` reads the answer.
extern "C" { int misaligned = 0; }
static inline void* at_multiple(const void* place, size_t size) { if ((uintptr_t)place % size) misaligned = 1; return (void*)place; }

using __half = _Float16;
using half = _Float16;
struct __half2 { half x, y; };
struct alignas(8) float2 { float x, y; };
struct float3 { float x, y, z; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct int3 { int x, y, z; };
struct alignas(16) int4 { int x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(8) uint2 { uint32_t x, y; };
static inline bool __hgt(half a, half b) { return a > b; }
static inline bool __hlt(half a, half b) { return a < b; }
static inline float __half2float(half a) { return a; }
static inline half __float2half(float a) { return a; }
static inline half __float2half_rn(float a) { return a; }

// What 32 threads of a GPU do together on tensor cores, in words: each has four results of 16 x 8. A pitch is in words of 4 bytes.
template <int in_word, class Wide> static inline void multiply_add(
    Wide wide, float* sums, const uint32_t*, const void* rows, int row_pitch, const uint32_t*, const void* columns, int column_pitch,
    int lane) {
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 8 * in_word; k++)
      sums[i] += wide(rows, (lane / 4 + i / 2 * 8) * row_pitch * in_word + k)
        * wide(columns, (lane % 4 * 2 + i % 2) * column_pitch * in_word + k);
}
static inline void row_fragment(uint32_t*, const void*, int, int) {}
static inline void column_fragment(uint32_t*, const void*, int, int) {}
template <class... Given> static inline void multiply_add_f16(Given... given) {
  multiply_add<2>([](const void* from, int at) { return (float)((const half*)from)[at]; }, given...);
}
template <class... Given> static inline void multiply_add_bf16(Given... given) {
  auto wide = [](const void* from, int at) { uint32_t bits = (uint32_t)((const uint16_t*)from)[at] << 16; float made; memcpy(&made, &bits, 4); return made; };
  multiply_add<2>(wide, given...);
}
template <class... Given> static inline void multiply_add_tf32(Given... given) {
  multiply_add<1>([](const void* from, int at) { return ((const float*)from)[at]; }, given...);
}
static inline float rounded_to_tf32(float value) {  // to 11 digits, ties away from zero
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if (std::isfinite(value)) bits = (bits + 0x1000) & 0xffffe000;
  float made;
  memcpy(&made, &bits, 4);
  return made;
}

#define CUDART_INF_F HUGE_VALF
#define CUDART_INF HUGE_VAL
#define CUDART_NAN_F NAN
#define CUDART_NAN ((double)NAN)

template <class To, class From> static inline To same_bits(From value) { To made; memcpy(&made, &value, sizeof made); return made; }
static inline float __uint_as_float(uint32_t bits) { return same_bits<float>(bits); }
static inline float __int_as_float(int32_t bits) { return same_bits<float>(bits); }
static inline uint32_t __float_as_uint(float value) { return same_bits<uint32_t>(value); }
static inline int32_t __float_as_int(float value) { return same_bits<int32_t>(value); }
static inline double __longlong_as_double(long long bits) { return same_bits<double>(bits); }
static inline float rsqrtf(float value) { return 1 / sqrtf(value); }
static inline double rsqrt(double value) { return 1 / sqrt(value); }
template <class A, class B> static inline std::common_type_t<A, B> max(A a, B b) { return a > b ? a : b; }
template <class A, class B> static inline std::common_type_t<A, B> min(A a, B b) { return a < b ? a : b; }

template <class Kernel> static void run_blocks(const int* grid, const int* block, bool waits, Kernel kernel) {
  auto blocks = [&](auto&& each) {
    for (int z = 0; z < grid[2]; z++) for (int y = 0; y < grid[1]; y++) for (int x = 0; x < grid[0]; x++) each(Position{x, y, z});
  };
  auto place = [&](int number) { return Position{number % block[0], number / block[0] % block[1], number / block[0] / block[1]}; };
  int count = block[0] * block[1] * block[2];
  if (!waits) {
    blocks([&](Position where) { blockIdx = where; for (int i = 0; i < count; i++) { threadIdx = place(i); kernel(); } });
    return;
  }
  std::barrier<> meeting(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; i++) threads.emplace_back([&, i] {
    together = &meeting;
    threadIdx = place(i);
    blocks([&](Position where) { blockIdx = where; kernel(); meeting.arrive_and_wait(); });
  });
  for (auto& thread : threads) thread.join();
}
