"""An alternative compiled for a device, in buffers of its own there. Runs in the measuring process."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

from codegen.device.build import BuiltDeviceProgram, link, lowered
from codegen.libraries import operations
from codegen.lower.device import Call, Launch
from codegen.targets.gpu import GpuTarget
from codegen.tune.device_run import GuardedDeviceRun
from codegen.tune.requests import Build
from tensoropt.allocation import Placement
from tensoropt.ir.program import Array, Program


def build_for_device(program: Program, plan: Placement, request: Build) -> BuiltDeviceProgram:
    """The program for the request's target, its tensors as the request's layout says."""
    assert isinstance(request.target, GpuTarget)
    layout = request.layout
    strides = {}
    if layout.strides is not None:
        (output,) = program.outputs
        strides[output.name] = layout.strides
    steps = lowered(
        program, plan.idle, request.target, variants=request.variants, strides=strides, start=layout.start
    )  # fmt: skip
    return link(program, plan, request.target, steps)


def guarded(built: BuiltDeviceProgram, feeds: Mapping[str, Array], request: Build) -> GuardedDeviceRun:
    """The program with buffers on the device that is here. UsageError where there is none, or where it has no room."""
    return GuardedDeviceRun(built, feeds, built.code.bench(), request.layout)


def digests(built: BuiltDeviceProgram) -> list[int]:
    """What tells the code of a program from that of others: of each launch its function, blocks and threads, or its call."""
    return [number for step in built.steps for launch in step.kernel.entries for number in _digest(launch)]


def _digest(launch: Launch | Call) -> list[int]:
    from tvm_ffi import structural_hash

    if isinstance(launch, Call):
        return [zlib.crc32(json.dumps(operations.as_json(launch.call), sort_keys=True).encode())]
    return [structural_hash(launch.function, map_free_vars=True), *launch.grid, *launch.block]
