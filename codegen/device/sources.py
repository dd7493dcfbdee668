"""Device functions to the text of a device's language, by TVM's source generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codegen.targets.gpu import GpuTarget

OPENCL_PRELUDE = """\
#pragma OPENCL FP_CONTRACT OFF
inline void block_barrier() { barrier(CLK_LOCAL_MEM_FENCE | CLK_GLOBAL_MEM_FENCE); }
inline float float_of_half(ushort bits) { return vload_half(0, (const __private half*)&bits); }
inline ushort half_of_float(float value) { ushort bits; vstore_half_rte(value, 0, (__private half*)&bits); return bits; }
#define nearbyint rint
#undef select
#define select(otherwise, chosen, condition) ((condition) ? (chosen) : (otherwise))
"""
"""What kernels call beside OpenCL's own functions; C's names of f32 functions follow. TVM prints a ``select`` whose condition is an
i32, which OpenCL's own has for values of 32 bits only."""

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
