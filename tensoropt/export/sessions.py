"""Exported models in ONNX Runtime: the proof that another runtime reads them, and how fast it runs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.errors import ArtefactError

if TYPE_CHECKING:
    import onnx


def session_of(model: onnx.ModelProto, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` of a model in memory (below 2 GiB)."""
    return _session(model.SerializeToString(), threads)


def session_of_file(path: Path, threads: int = 1) -> Any:
    """An ``onnxruntime.InferenceSession`` of a model file. ArtefactError for a file that ONNX Runtime does not load."""
    if not path.is_file():
        raise ArtefactError(
            f"{path}: the file is missing, so there is nothing to compare with; optimize the model again"
        )
    try:
        return _session(str(path), threads)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ArtefactError(f"{path}: ONNX Runtime does not load it ({reason}); optimize the model again") from None


def _session(model: str | bytes, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
