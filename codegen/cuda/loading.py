"""A CUDA artefact on this machine's GPU, or one sentence that says why it does not run here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codegen.cuda.driver import NoDevice, open_driver
from codegen.cuda.files import read_images
from codegen.cuda.runtime import CudaModel
from codegen.device.table import Entry
from codegen.signature import Signature
from tensoropt.errors import ArtefactError
from tensoropt.ir.program import Array


def load_cuda(folder: Path, starts: Sequence[Entry], signature: Signature, weights: Array) -> CudaModel:
    """The model of a folder, on the first GPU. ArtefactError where there is none, or none that the code is for."""
    images = read_images(folder)
    archs = ", ".join(dict.fromkeys(image.arch for image in images)) or "CUDA"
    try:
        driver = open_driver()
    except NoDevice as error:
        raise ArtefactError(f"{folder}: the artefact runs on a GPU ({archs}), but {error}") from error
    try:
        return CudaModel(driver, images, starts, signature, weights)
    except ArtefactError as error:
        raise ArtefactError(f"{folder}: {error}") from error
