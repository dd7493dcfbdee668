"""Which targets this machine runs: a GPU's code runs on a GPU of its generation."""

from __future__ import annotations

from collections.abc import Collection

from codegen.cuda.driver import Device, NoDevice, open_driver
from codegen.targets.architectures import runs_on
from codegen.targets.gpu import GpuTarget


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


def _other(device: Device) -> str:
    return f"the GPU here, {device.name}, has the architecture sm_{device.capability[0]}{device.capability[1]}"
