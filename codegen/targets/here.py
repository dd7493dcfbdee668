"""Which targets this machine runs: a GPU's code runs on a GPU of its generation."""

from __future__ import annotations

from collections.abc import Iterable

from codegen.cuda.driver import Device, NoDevice, open_driver
from codegen.targets.architectures import runs_on
from codegen.targets.gpu import GpuTarget


def why_not_here(targets: Iterable[GpuTarget]) -> dict[str, str]:
    """By name of each CUDA target why its code does not run here; empty where it does."""
    try:
        device = open_driver().device
    except NoDevice as error:
        return {target.name: str(error) for target in targets}
    return {target.name: "" if runs_on(target.arch, device.capability) else _other(device) for target in targets}


def _other(device: Device) -> str:
    return f"the GPU here, {device.name}, has the architecture sm_{device.capability[0]}{device.capability[1]}"
