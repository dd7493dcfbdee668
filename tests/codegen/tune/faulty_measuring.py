"""The measuring process with candidates that misbehave: a variant's ``fault`` says how. Started by tests in place of the real one.

FAULT_OF_DEFAULT makes the default schedule misbehave.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codegen.build import BuiltProgram
    from codegen.targets.cpu import CpuTarget
    from tensoropt.allocation import Placement
    from tensoropt.ir.program import Program


def compile_program(program: Program, plan: Placement, target: CpuTarget, variants: Mapping[str, Any]) -> BuiltProgram:
    """What the real one compiles, with a fault where the variant has one."""
    from codegen.build import compile_program as compile_honestly

    fault = os.environ.get("FAULT_OF_DEFAULT", "")
    for variant in variants.values():
        fault = variant.get("fault", "")
    if fault == "refuse":
        raise ValueError("this does not compile")
    built = compile_honestly(program, plan, target, variants=variants)
    if fault:
        built.module = Faulty(built, fault)
    return built


class Faulty:
    """Stands for a module: its entry gets the addresses of inputs, outputs, workspace and constants."""

    def __init__(self, built: BuiltProgram, fault: str) -> None:
        self._main: Callable[..., None] = built.module["main"]
        self._fault, self._signature = fault, built.signature
        self._runs = 0

    def __getitem__(self, name: str) -> Callable[..., None]:
        assert name == "main"
        return self._run

    def _run(self, *pointers: Any) -> None:
        addresses = [pointer.value for pointer in pointers]
        output = addresses[len(self._signature.inputs)]
        size = self._signature.outputs[0].type.bytes
        self._runs += 1
        match self._fault:
            case "crash":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "leave":
                os._exit(3)
            case "hang":
                while True:
                    pass
            case "eat":
                eaten = []
                while True:
                    eaten.append(bytearray(1 << 26))
            case "nothing":
                pass
            case "nearly":
                self._main(*pointers)
                ctypes.c_float.from_address(output + size - 4).value += 1.0
            case "later":
                if self._runs == 1:
                    self._main(*pointers)
                else:
                    ctypes.memset(output, 0, size)
            case "after":
                self._main(*pointers)
                ctypes.memset(output + size, 0, 16)
            case "before":
                self._main(*pointers)
                ctypes.memset(output - 8, 0, 4)
            case "input":
                self._main(*pointers)
                ctypes.memset(addresses[0], 0x11, 1)
            case "constants":
                self._main(*pointers)
                ctypes.c_uint8.from_address(addresses[-1]).value ^= 1
            case "workspace":
                self._main(*pointers)
                ctypes.memset(addresses[-2] + max(self._signature.arena_bytes, 64), 0, 1)
            case "far":
                ctypes.memset(output + (1 << 40), 0, 64)
            case _:
                raise ValueError(f"no such fault: {self._fault}")


def main() -> None:
    """The real process but for what it compiles."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # as the real one does, and it starts often here
    from codegen.tune import measuring, process

    setattr(measuring, "compile_program", compile_program)  # noqa: B010  (the module does not export it)
    process.main()


if __name__ == "__main__":
    main()
