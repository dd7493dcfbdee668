"""A device's artefact, read and checked, on the device."""

from __future__ import annotations

from pathlib import Path

from codegen.device.files import SOURCES
from codegen.device.opencl import Code, DeviceModel
from codegen.device.table import Start
from codegen.signature import Signature
from tensoropt.errors import ArtefactError
from tensoropt.ir.program import Array


def load_on_device(
    folder: Path, kind: str, starts: tuple[Start, ...], signature: Signature, weights: Array
) -> DeviceModel:
    """The model of a folder on this machine's device. UsageError where there is none, ArtefactError where it cannot run there."""
    if kind != "opencl":
        raise ArtefactError(
            f"{folder}: the artefact is for {kind}, which this version does not run; use --target opencl"
        )
    return DeviceModel(Code((folder / SOURCES[kind]).read_text()), starts, signature, weights)
