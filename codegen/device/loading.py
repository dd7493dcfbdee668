"""A device's artefact, read and checked, on the device."""

from __future__ import annotations

from pathlib import Path

from codegen.built import Model
from codegen.device.files import SOURCES
from codegen.device.opencl import Code, DeviceModel
from codegen.device.table import Entry
from codegen.signature import Signature
from tensoropt.ir.program import Array


def load_on_device(folder: Path, kind: str, starts: tuple[Entry, ...], signature: Signature, weights: Array) -> Model:
    """The model of a folder on this machine's device. UsageError or ArtefactError where there is none or it cannot run there."""
    if kind == "cuda":
        from codegen.cuda.loading import load_cuda

        return load_cuda(folder, starts, signature, weights)
    return DeviceModel(Code((folder / SOURCES[kind]).read_text()), starts, signature, weights)
