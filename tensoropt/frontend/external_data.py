"""External data, memory-mapped and confined to the model's folder.

The threats are those of onnx's ``ExternalDataSecurity.md``: ``../``, absolute paths, symbolic links that leave the folder, hard
links to files elsewhere, devices, and sizes that do not fit the file. A symbolic link may point into the model's folder or, as
download caches lay models out, into the folder where the model file itself really lies.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tensoropt.errors import ModelError
from tensoropt.ir.program import Array

if TYPE_CHECKING:
    import onnx


@dataclass(slots=True)
class ExternalData:
    """Opens the external data of one model. ``files`` collects what was mapped, for the model's hash."""

    label: str
    path: Path | None
    folder: Path | None
    files: set[Path] = field(default_factory=set)

    def load(self, tensor: onnx.TensorProto, dtype: np.dtype[np.generic]) -> Array:
        """The tensor's elements as a read-only memory map in the tensor's shape; ModelError where they are not to be had."""
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        file = self._confined(location, tensor.name)
        shape = tuple(tensor.dims)
        expected = prod(shape) * dtype.itemsize
        try:
            offset = int(entries.get("offset", "0"))
            length = int(entries.get("length", str(expected)))
        except ValueError:
            raise ModelError(
                f"{self.label}: the external data of {tensor.name!r} has an offset or length that is no number"
            ) from None
        size = file.stat().st_size
        if offset < 0 or length != expected or offset + length > size:
            raise ModelError(
                f"{self.label}: {tensor.name!r} needs {expected} bytes at offset {offset} of its external data {location!r}, "
                f"which has {size} bytes; the file is damaged or belongs to another model"
            )
        self.files.add(file)
        if expected == 0:
            return np.zeros(shape, dtype)
        mapped: Array = np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)
        return mapped if offset % dtype.itemsize == 0 else np.array(mapped)

    def _confined(self, location: str, name: str) -> Path:
        where = f"{self.label}: the external data of {name!r}"
        if self.folder is None:
            raise ModelError(f"{where} lies in {location!r}, but the model was not given as a path; give its path")
        if not location or os.path.isabs(location) or "\\" in location or ".." in Path(location).parts:
            raise ModelError(
                f"{where} lies outside the model's folder ({location!r}); move it beside the model and export again"
            )
        file = self.folder / location
        if not os.path.lexists(file):
            raise ModelError(f"{where} is missing: {file} does not exist; put it beside the model")
        real = Path(os.path.realpath(file))
        roots = {Path(os.path.realpath(self.folder))}
        if self.path is not None:
            roots.add(Path(os.path.realpath(self.path)).parent)
        if not any(real.is_relative_to(root) for root in roots):
            raise ModelError(
                f"{where} is a symbolic link that leaves the model's folder ({location!r}); copy the file itself there"
            )
        try:
            status = real.stat()
        except OSError:
            raise ModelError(f"{where} is missing: {file} does not lead to a file; put it beside the model") from None
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{where} is not a regular file ({location!r})")
        if status.st_nlink > 1:
            raise ModelError(
                f"{where} is a hard link to a file that also lies elsewhere ({location!r}); copy the file itself there"
            )
        return real
