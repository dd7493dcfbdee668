"""Where a model comes from: a path, bytes, a ``ModelProto`` or an ``onnx_ir.Model``; read without touching external data."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tensoropt.errors import ModelError
from tensoropt.frontend.wire_format import fields_fill

if TYPE_CHECKING:
    import onnx
    import onnx_ir

ModelSource: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto | onnx_ir.Model"
_PROTOBUF_LIMIT = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed model. ``label`` names it in messages; ``folder`` is where its external data lies, if anywhere."""

    model: onnx.ModelProto
    label: str
    path: Path | None
    folder: Path | None
    sha256: str


def read_source(model: ModelSource) -> Source:
    """The model as a ``ModelProto``; ModelError for what is not one."""
    import onnx

    if isinstance(model, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return Source(copy, "the model", None, None, _hash_of(copy))
    if isinstance(model, bytes):
        return Source(_parse(model, "the model"), "the model", None, None, hashlib.sha256(model).hexdigest())
    if isinstance(model, (str, os.PathLike)):
        return _read_file(Path(model))
    return _read_onnx_ir(model)


def _hash_of(model: onnx.ModelProto) -> str:
    if model.ByteSize() > _PROTOBUF_LIMIT:
        return hashlib.sha256(repr([node.name for node in model.graph.node]).encode()).hexdigest()
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def _read_file(path: Path) -> Source:
    if path.is_dir():
        raise ModelError(f"{path} is a folder, not an ONNX file; give the path of the .onnx file in it")
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is not a regular file; give the path of an ONNX file")
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if size > _PROTOBUF_LIMIT:
                raise ModelError(f"{path} is larger than the 2 GiB of an ONNX file; save its weights as external data")
            if size and not fields_fill(stream, size):
                raise ModelError(f"{path} is not an ONNX model or is truncated; export it again")
            stream.seek(0)
            data = stream.read()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; give the path of an ONNX file") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from None
    return Source(_parse(data, str(path)), str(path), path, path.parent, hashlib.sha256(data).hexdigest())


def _parse(data: bytes, label: str) -> onnx.ModelProto:
    import onnx

    if not data:
        raise ModelError(f"{label} is empty; export the model again")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's DecodeError, which has no typed home
        raise ModelError(f"{label} is not an ONNX model or is truncated; export it again") from None
    if not model.HasField("graph"):
        raise ModelError(f"{label} holds no ONNX graph, so it is another kind of file or truncated; export it again")
    return model


def _read_onnx_ir(model: object) -> Source:
    import onnx_ir

    if not isinstance(model, onnx_ir.Model):
        raise ModelError(
            f"a model is a path, bytes, onnx.ModelProto or onnx_ir.Model, not {type(model).__module__}.{type(model).__name__}"
        )
    folder: Path | None = None
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, onnx_ir.ExternalTensor):
            folder = Path(tensor.base_dir) if tensor.base_dir else None
            break
    proto = onnx_ir.to_proto(model)
    return Source(proto, "the model", None, folder, _hash_of(proto))
