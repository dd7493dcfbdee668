"""CUDA C++ of device functions, as TVM's generator prints it. Nothing is compiled here, and no CUDA is needed.

TVM 0.27 compiles a CUDA module when it is loaded or exported and not when it is built, so that taking the text needs no callback.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.device.sources import generated
from codegen.targets.gpu import GpuTarget

PRELUDE = """\
static __device__ __forceinline__ void block_barrier() { __syncthreads(); }
template <int bytes> struct Word;
template <> struct Word<2> { using type = unsigned short; };
template <> struct Word<4> { using type = unsigned; };
template <> struct Word<8> { using type = uint2; };
template <> struct Word<16> { using type = uint4; };
#define AT_ONCE(count) \\
  template <class T> static __device__ __forceinline__ void load_##count(T* own, const T* there) { \\
    using Whole = typename Word<count * sizeof(T)>::type; \\
    Whole found = *(const Whole*)there; \\
    memcpy(own, &found, sizeof found); \\
  } \\
  template <class T> static __device__ __forceinline__ void store_##count(T* there, const T* own) { \\
    using Whole = typename Word<count * sizeof(T)>::type; \\
    Whole found; \\
    memcpy(&found, own, sizeof found); \\
    *(Whole*)there = found; \\
  }
AT_ONCE(2)
AT_ONCE(4)
AT_ONCE(8)
AT_ONCE(16)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
static __device__ __forceinline__ void row_fragment(unsigned* words, const void* rows, int pitch, int lane) {
  const unsigned* own = (const unsigned*)rows + (lane >> 2) * pitch + (lane & 3);
  words[0] = own[0], words[1] = own[8 * pitch], words[2] = own[4], words[3] = own[8 * pitch + 4];
}
static __device__ __forceinline__ void column_fragment(unsigned* words, const void* columns, int pitch, int lane) {
  const unsigned* own = (const unsigned*)columns + (lane >> 2) * pitch + (lane & 3);
  words[0] = own[0], words[1] = own[4];
}
static __device__ __forceinline__ float rounded_to_tf32(float value) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return __uint_as_float(bits);
}
#define MULTIPLY_ADD(name, shape, type) \\
  static __device__ __forceinline__ void name( \\
      float* sums, const unsigned* a, const void*, int, const unsigned* b, const void*, int, int) { \\
    asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 " \\
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \\
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]) \\
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1])); \\
  }
MULTIPLY_ADD(multiply_add_f16, "m16n8k16", "f16")
MULTIPLY_ADD(multiply_add_bf16, "m16n8k16", "bf16")
MULTIPLY_ADD(multiply_add_tf32, "m16n8k8", "tf32")
#endif
"""
"""What kernels call beside CUDA's own functions.

Several elements that begin at a multiple of their size are read and written by one instruction: as words, which nvcc lets lie where
elements of another type do, and which it does not take apart.
The barrier orders a block's accesses to global memory as well as to shared. The products are those of 32 threads together; rows and
columns lie along the depth, ``pitch`` words of four bytes apart.
"""


def cuda_source(functions: Mapping[str, Any], target: GpuTarget) -> str:
    """One source of all device functions (TIR, threads bound to ``blockIdx`` and ``threadIdx``), kernels by their names here."""
    return PRELUDE + generated(functions, target)


def chunks(functions: Mapping[str, Any], target: GpuTarget, count: int) -> list[str]:
    """The functions in at most ``count`` sources of about the same length: each goes, the longest first, where least is."""
    alone = {name: generated({name: function}, target) for name, function in functions.items()}
    groups: list[dict[str, Any]] = [{} for _ in range(max(1, min(count, len(functions))))]
    lengths = [0] * len(groups)
    for name in sorted(alone, key=lambda name: (-len(alone[name]), name)):
        place = lengths.index(min(lengths))
        groups[place][name] = functions[name]
        lengths[place] += len(alone[name])
    return [cuda_source(group, target) for group in groups if group]
