"""Exported models as files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import onnx

EXTERNAL_BYTES = 1 << 28
"""Models with more bytes of weights keep them in a file of their own: a protobuf ends at 2 GiB, and writing one takes several times
its size in memory."""

_SMALL_BYTES = 1024
_ALIGNMENT = 4096


def save_onnx(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Writes a model; large weights go to ``<name>.data`` beside it, one after the other."""
    target = Path(path)
    data = target.with_name(f"{target.name}.data")
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= EXTERNAL_BYTES:
        target.write_bytes(model.SerializeToString())
        return
    light = _without_weights(model)
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            raw = tensor.raw_data
            entry = light.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
            if len(raw) <= _SMALL_BYTES:
                entry.raw_data = raw
                continue
            file.seek(-(-file.tell() // _ALIGNMENT) * _ALIGNMENT)
            entry.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", data.name), ("offset", file.tell()), ("length", len(raw))):
                entry.external_data.add(key=key, value=str(value))
            file.write(raw)
    target.write_bytes(light.SerializeToString())


def save_inlined(source: Path, folder: Path) -> Path:
    """Writes a model that was saved, without functions of its own, to a folder: not every runtime takes those."""
    from onnx.inliner import inline_local_functions

    target = folder / source.name
    target.write_bytes(inline_local_functions(onnx.load(source, load_external_data=False)).SerializeToString())
    data = source.with_name(f"{source.name}.data")
    if data.exists():
        shutil.copyfile(data, folder / data.name)
    return target


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without initializers, copied field by field so that they are not copied on the way."""
    light = onnx.ModelProto()
    for source, target, left_out in ((model, light, "graph"), (model.graph, light.graph, "initializer")):
        for field, value in source.ListFields():
            if field.name == left_out:
                continue
            if isinstance(value, int | str):
                setattr(target, field.name, value)
            else:
                getattr(target, field.name).extend(value)
    return light
