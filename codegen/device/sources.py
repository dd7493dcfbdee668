"""Device functions to the text of a device's language, by TVM's source generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.targets.gpu import GpuTarget

OPENCL_PRELUDE = """\
#pragma OPENCL FP_CONTRACT OFF
inline void block_barrier() { barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE); }
inline float float_of_half(ushort bits) {
  uint magnitude = bits & 0x7fffu;
  float small = (float)magnitude * 0x1p-24f;
  float other = as_float((magnitude << 13) + (magnitude < 0x7c00u ? 0x38000000u : 0x70000000u));
  return as_float(as_uint(magnitude < 0x400u ? small : other) | (bits & 0x8000u) << 16);
}
inline ushort half_of_float(float value) {
  uint bits = as_uint(value), magnitude = bits & 0x7fffffffu;
  uint small = convert_uint_rte(magnitude < 0x38800000u ? fabs(value) * 0x1p24f : 0.0f);
  uint other = (magnitude + 0xfffu + (magnitude >> 13 & 1u) - 0x38000000u) >> 13;
  uint large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  uint rounded = magnitude < 0x38800000u ? small : magnitude < 0x477ff000u ? other : large;
  return (ushort)(rounded | (bits >> 16 & 0x8000u));
}
inline float float_of_bfloat(ushort bits) { return as_float((uint)bits << 16); }
#define AT_ONCE(count, to, from) vstore##count(vload##count(0, from), 0, to)
#define load_2(to, from) AT_ONCE(2, to, from)
#define load_4(to, from) AT_ONCE(4, to, from)
#define load_8(to, from) AT_ONCE(8, to, from)
#define load_16(to, from) AT_ONCE(16, to, from)
#define store_2(to, from) AT_ONCE(2, to, from)
#define store_4(to, from) AT_ONCE(4, to, from)
#define store_8(to, from) AT_ONCE(8, to, from)
#define store_16(to, from) AT_ONCE(16, to, from)
#define row_fragment(words, rows, pitch, lane)
#define column_fragment(words, columns, pitch, lane)
__attribute__((noinline)) float rounded_to_tf32(float value) {
  uint bits = as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? value : as_float((bits + 0x1000u) & 0xffffe000u);
}
#define MULTIPLY_ADD(name, type, in_word, wide) \\
  __attribute__((noinline)) void name(float* sums, uint* a, __local const type* rows, int row_pitch, \\
                   uint* b, __local const type* columns, int column_pitch, int lane) { \\
    for (int i = 0; i < 4; i++) { \\
      __local const type* row = rows + (lane / 4 + i / 2 * 8) * row_pitch * in_word; \\
      __local const type* column = columns + (lane % 4 * 2 + i % 2) * column_pitch * in_word; \\
      for (int k = 0; k < 8 * in_word; k++) sums[i] += wide(row[k]) * wide(column[k]); \\
    } \\
  }
MULTIPLY_ADD(multiply_add_f16, ushort, 2, float_of_half)
MULTIPLY_ADD(multiply_add_bf16, ushort, 2, float_of_bfloat)
MULTIPLY_ADD(multiply_add_tf32, float, 1, )
#define nearbyint rint
#undef select
#define select(otherwise, chosen, condition) ((condition) ? (chosen) : (otherwise))
"""
"""What kernels call beside OpenCL's own functions; C's names of f32 functions follow.

Several elements at once are vectors of the elements' own type: a compiler may take it that nothing of another type lies there.

f16 is converted by its bits: OpenCL's own functions take a pointer to ``half``, and a compiler may take it that no ``ushort``
lies there. TVM prints a ``select`` whose condition is an i32, which OpenCL's own has for values of 32 bits only. The products are
what tensor cores do together, in words: each thread has four results of 16 x 8, and rows and columns lie ``pitch`` words of four
bytes apart. tf32 is f32 rounded to 11 digits, ties away from zero, as PTX has it (``cvt.rna``); not inline,
because PoCL's compiler then loses some of the elements that a thread rounds one after another.
"""

_C_NAMES = (
    *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "atan2"),
    *("pow", "fmod", "exp", "log", "tanh", "erf"),
)


def opencl_source(functions: Mapping[str, Any], target: GpuTarget) -> str:
    """One OpenCL program of all device functions, by their names."""
    prelude = OPENCL_PRELUDE + "".join(f"#define {name}f {name}\n" for name in _C_NAMES)
    return prelude + generated(functions, target)


def generated(functions: Mapping[str, Any], target: GpuTarget) -> str:
    """What TVM's generator for the target prints; nothing is compiled."""
    import tvm
    from tvm import tirx

    module = tvm.ir.IRModule(
        {tvm.ir.GlobalVar(name): function.with_attr("global_symbol", name) for name, function in functions.items()}
    )
    module = tirx.transform.LowerIntrin()(module)
    built = tvm.get_global_func(f"target.build.{target.kind}")(module, target.tvm())
    return str(built.inspect_source())
