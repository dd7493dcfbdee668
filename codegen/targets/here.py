"""Which targets this machine runs: a GPU's code runs on a GPU of its generation."""

from __future__ import annotations

from collections.abc import Collection

from codegen.cuda.driver import Device, NoDevice, open_driver
from codegen.targets.architectures import runs_on
from codegen.targets.gpu import GpuTarget
from tensoropt.errors import UsageError


def why_not_here(targets: Collection[GpuTarget]) -> dict[str, str]:
    """By name of each target why its code does not run here; empty where it does, as for an OpenCL device, which was asked."""
    found = {target.name: "" for target in targets if target.kind != "cuda"}
    asked = [target for target in targets if target.kind == "cuda"]
    if not asked:
        return found
    try:
        device = open_driver().device
    except NoDevice as error:
        return found | {target.name: str(error) for target in asked}
    return found | {target.name: "" if runs_on(target.arch, device.capability) else _other(device) for target in asked}


def device_here(target: GpuTarget) -> str:
    """What times of kernels depend on beside the target: the device and its driver. UsageError where there is none."""
    if target.kind == "opencl":
        from codegen.device.opencl import find_device

        found = find_device()
        return f"{found.name.strip()}, {found.version.strip()}, {found.driver_version}"
    try:
        device = open_driver().device
    except NoDevice as error:
        raise UsageError(f"kernels for {target.name} cannot be measured here: {error}") from error
    return f"{device.name}, CUDA {device.driver}"


def _other(device: Device) -> str:
    return f"the GPU here, {device.name}, has the architecture sm_{device.capability[0]}{device.capability[1]}"
