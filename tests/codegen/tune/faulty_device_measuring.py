"""The measuring process of devices with kernels that misbehave: a variant's ``fault`` says what a kernel does first.

Started by tests in place of the real one. The faults are statements of the kernel's own source: the device does them.
"""

from __future__ import annotations

import re
import sys
from typing import Any

FAULTS = {
    "after": "if (get_global_id(0) == 0) out[{elements}] = 0;",
    "before": "if (get_global_id(0) == 0) out[-2] = 0;",
    "between": "if (get_global_id(0) == 0) out[{row}] = 0;",
    "input": "if (get_global_id(0) == 0) in0[0] = 77;",
    "constants": "if (get_global_id(0) == 0) in1[0] = 77;",
    "crash": "*(volatile __global int*)(size_t)8 = 1;",
    "hang": "volatile int going = 1; while (going) ;",
    "nothing": "return;",
}


def build_for_device(program: Any, plan: Any, request: Any) -> Any:
    """What the real one builds, with a fault where the variant has one."""
    from codegen.device.code import OpenClCode
    from codegen.strided import spanned
    from codegen.tune.device_building import build_for_device as build_honestly

    fault = "".join(str(variant.get("fault", "")) for variant in request.variants.values())
    built = build_honestly(program, plan, request)
    if fault == "refuse":
        raise ValueError("this does not compile")
    if fault:
        (step,) = built.steps
        shape = tuple(map(int, step.kernel.output.shape))
        strides = step.kernel.strides
        elements = step.kernel.output.type.elements if strides is None else spanned(shape, strides)
        statement = FAULTS[fault].format(elements=elements, row=shape[-1])
        assert isinstance(built.code, OpenClCode)
        source = re.sub(r"(restrict out\) \{)", rf"\1\n  {statement}", built.code.source)
        assert source != built.code.source
        built.code = OpenClCode(source)
    return built


def main() -> None:
    """The real process but for what it compiles."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # as the real one does, and it starts often here
    from codegen.tune import device_process, measuring

    setattr(measuring, "build_for_device", build_for_device)  # noqa: B010  (the module does not export it)
    device_process.main()


if __name__ == "__main__":
    main()
