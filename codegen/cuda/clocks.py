"""The clocks of a GPU as NVML tells them, to be kept beside times: one that is hot or shared runs slower. Not run on a GPU yet."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

_CLOCKS = {"graphics": "CLOCK_GRAPHICS", "memory": "CLOCK_MEM"}


def clocks_of(bus: str) -> dict[str, int] | None:
    """In MHz, of the GPU at a PCI bus (``0000:17:00.0``); None where NVML is missing or does not tell them."""
    nvml = _library()
    if nvml is None:
        return None
    try:
        device = nvml.device_get_handle_by_pci_bus_id_v2(bus)
        return {name: int(nvml.device_get_clock_info(device, nvml.ClockType[kind])) for name, kind in _CLOCKS.items()}
    except Exception:  # whatever a driver lacks: times are worth having without
        return None


@cache
def _library() -> Any:
    try:
        nvml = importlib.import_module("cuda.bindings.nvml")
        nvml.init_v2()
    except Exception:  # not installed, an older release of the bindings, no driver
        return None
    return nvml
