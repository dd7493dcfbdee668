"""Reading an artefact back. Nothing here imports the compiler, so a model loads in a fraction of a second."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from codegen.runtime import CompiledModel, Signature, load_runtime
from codegen.targets.cpu import available_threads, runtime_features
from tensoropt.errors import ArtefactError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.types import DataType, Extent, TensorType

FORMAT = {"name": "tensoropt artefact", "version": 1}
LIBRARY, WEIGHTS, MANIFEST = "model.so", "weights.bin", "manifest.json"
REQUIRED = "avx", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"
"""Features whose instructions compiled code may hold; others change no instruction that it cannot do without."""


def load(folder: Path, threads: int | None = None) -> CompiledModel:
    """The model of an artefact folder. ``threads`` defaults to what it was compiled for, within what the process may use.

    ArtefactError, with one sentence that says what to do, for a folder that is none, is damaged, is of another format version, or
    was compiled for processor features that this machine lacks.
    """
    manifest = read_manifest(folder)
    try:
        _require_features(folder, manifest["target"])
        _require_files(folder, manifest["files"])
        inputs = tuple(_tensor(entry) for entry in manifest["inputs"])
        outputs = tuple(_tensor(entry) for entry in manifest["outputs"])
        written = set(manifest["computed"])
        computed = frozenset(
            tensor
            for tensor in outputs
            if tensor.name in written or (tensor not in inputs and not tensor.type.elements)
        )
        size = int(manifest["files"][WEIGHTS]["bytes"])
        weights = np.memmap(folder / WEIGHTS, np.uint8, "r") if size else np.empty(1, np.uint8)
        constants = {
            tensor.name: _constant(weights, tensor, manifest["constant_outputs"][tensor.name])
            for tensor in outputs
            if tensor.name in manifest["constant_outputs"]
        }
        entry = load_runtime().load_module(str((folder / LIBRARY).resolve()))["main"] if manifest["has_code"] else None
        compiled_for = int(manifest["target"]["threads"])
        arena = int(manifest["memory"]["arena_bytes"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtefactError(f"{folder}: the manifest is damaged ({error}); optimize the model again") from error
    return CompiledModel(
        Signature(inputs, outputs, computed, constants),
        entry,
        weights,
        arena,
        threads or min(compiled_for, available_threads()),
    )


def read_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of an artefact of a known format."""
    if not folder.exists():
        raise ArtefactError(f"{folder}: there is no such folder")
    if not (folder / MANIFEST).is_file():
        raise ArtefactError(f"{folder}: this folder is not an artefact, it has no {MANIFEST}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        name, version = manifest["format"]["name"], manifest["format"]["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(f"{folder}: the manifest is damaged or foreign; optimize the model again") from error
    if name != FORMAT["name"]:
        raise ArtefactError(f"{folder}: this is not an artefact of tensoropt but of {name!r}")
    if version != FORMAT["version"]:
        raise ArtefactError(
            f"{folder}: the artefact has format version {version}, this tensoropt reads {FORMAT['version']}; "
            "optimize the model again"
        )
    assert isinstance(manifest, dict)
    return manifest


def _require_features(folder: Path, target: Mapping[str, Any]) -> None:
    here = runtime_features()
    missing = [feature for feature in REQUIRED if feature in target["features"] and feature not in here]
    if here and missing:
        raise ArtefactError(
            f"{folder}: the artefact was compiled for a processor with {', '.join(missing)}, which this machine lacks; "
            "optimize the model on this machine"
        )


def _require_files(folder: Path, files: Mapping[str, Any]) -> None:
    """All files are there in full; the code, which is about to run, is also what was written."""
    for name in (*([LIBRARY] if LIBRARY in files else []), WEIGHTS):
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{folder}: {name} is missing from the artefact; optimize the model again")
        size = path.stat().st_size
        if size != files[name]["bytes"]:
            raise ArtefactError(
                f"{folder}: {name} has {size} bytes where {files[name]['bytes']} were written; optimize the model again"
            )
    if LIBRARY in files:
        digest = hashlib.sha256((folder / LIBRARY).read_bytes()).hexdigest()
        if digest != files[LIBRARY]["sha256"]:
            raise ArtefactError(f"{folder}: {LIBRARY} is not the file that was written; optimize the model again")


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    shape = tuple(Extent(extent) for extent in entry["shape"])
    return Tensor(entry["name"], TensorType(DataType(entry["dtype"]), shape))


def _constant(weights: Any, tensor: Tensor, offset: int) -> Any:
    part = weights[offset : offset + tensor.type.bytes]
    return np.frombuffer(part, tensor.dtype.numpy).reshape(tuple(int(extent) for extent in tensor.shape))
