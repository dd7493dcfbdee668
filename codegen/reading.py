"""Reading an artefact back. Nothing here imports the compiler, so a model loads in a fraction of a second."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegen.built import Model
from codegen.device.files import CODE, LAUNCHES
from codegen.device.table import from_json
from codegen.runtime import CompiledModel, load_runtime
from codegen.signature import OutputSource, Signature
from codegen.targets.cpu import available_threads, runtime_features
from tensoropt.errors import ArtefactError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.operand_rounding import TF32_ROUNDOFF
from tensoropt.ir.types import DataType, Extent, TensorType

KIND = "tensoropt artefact"
FORMAT = 1
"""Grows with every change that older versions cannot read."""

MANIFEST, LIBRARY, WEIGHTS = "manifest.json", "model.so", "weights.bin"

NEVER_EMITTED = frozenset(
    (
        *("64bit", "adx", "aes", "avx512vp2intersect", "clflushopt", "clwb", "clzero", "cmov", "crc32", "cx16", "cx8"),
        *("fsgsbase", "fxsr", "invpcid", "mmx", "pclmul", "prfchw", "rdpid", "rdrnd", "rdseed", "sahf", "sha", "shstk"),
        *("sse4a", "vaes", "vpclmulqdq", "xsave", "xsavec", "xsaveopt", "xsaves"),
    )
)
"""Features that a compiler does not use by itself: code runs where they are missing."""


def load(folder: Path, threads: int | None = None) -> Model:
    """The model of an artefact folder. ``threads`` defaults to what it was compiled for, within what the process may use.

    ArtefactError, with one sentence that says what to do, for a folder that is none, is damaged, is of another format version, or
    was compiled for processor features that this machine lacks; UsageError where there is no device to run it.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    kind = "cpu"
    try:
        kind = manifest["target"]["kind"]
        if kind == "cpu":
            _require_features(folder, manifest["target"])
        code = (LIBRARY,) if kind == "cpu" else CODE[kind]
        _require_files(folder, manifest["files"], code)
        signature = _signature(manifest)
        if kind != "cpu":
            starts = from_json(json.loads((folder / LAUNCHES).read_text()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{folder}: the manifest is damaged ({error!r}); optimize the model again") from error
    weights = np.memmap(folder / WEIGHTS, np.uint8, "r")
    if kind != "cpu":
        from codegen.device.loading import load_on_device

        return load_on_device(folder, kind, starts, signature, weights)
    load_runtime()
    import tvm_ffi

    try:
        module = tvm_ffi.load_module(_spelling(folder.absolute(), manifest["files"][LIBRARY]["sha256"]))
    except RuntimeError as error:
        raise ArtefactError(f"{folder}: {LIBRARY} cannot be loaded ({error}); optimize the model again") from error
    return CompiledModel(
        module["main"], signature, weights, keep=module, threads=threads or min(signature.threads, available_threads())
    )


def _spelling(folder: Path, digest: str) -> str:
    """A path of the library that this process has not used for another content.

    The loader takes a library of the same spelled path for the same: after a folder was replaced, it would give the code of the one
    before, which reads other weights.
    """
    digests = _spelled.setdefault(str(folder), [])
    if digest not in digests:
        digests.append(digest)
    return f"{folder}/{'./' * digests.index(digest)}{LIBRARY}"


_spelled: dict[str, list[str]] = {}
"""Digests of the libraries that were loaded, by folder."""


def operand_roundoff(folder: Path) -> float:
    """By which share a folder's kernels may round the operands of sums of products of f32."""
    try:
        return TF32_ROUNDOFF if read_manifest(folder)["target"].get("tf32", False) else 0.0
    except (KeyError, AttributeError) as error:
        raise ArtefactError(f"{folder}: the manifest is damaged ({error!r}); optimize the model again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of an artefact of the format that this version reads."""
    if not folder.is_dir():
        raise ArtefactError(f"{folder}: there is no such folder")
    if not (folder / MANIFEST).is_file():
        raise ArtefactError(f"{folder}: this folder is not an artefact, it has no {MANIFEST}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{folder}: {MANIFEST} is damaged ({error}); optimize the model again") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise ArtefactError(f"{folder}: this folder is not an artefact, its {MANIFEST} is something else's")
    if manifest.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder}: the artefact has format version {manifest.get('format')}, this tensoropt reads {FORMAT}; "
            "optimize the model again"
        )
    return manifest


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_features(folder: Path, target: Mapping[str, Any]) -> None:
    here = runtime_features()
    missing = [feature for feature in target["features"] if feature not in here and feature not in NEVER_EMITTED]
    if here and missing:
        raise ArtefactError(
            f"{folder}: the artefact was compiled for a processor with {', '.join(missing[:4])}, which this machine lacks; "
            "optimize the model on this machine"
        )


def _require_files(folder: Path, files: Mapping[str, Any], code: Sequence[str]) -> None:
    """All files are there in full; the code, which is about to run, is also what was written."""
    for name in (*code, WEIGHTS):
        path = folder / name
        if not path.is_file():
            raise ArtefactError(f"{folder}: {name} is missing from the artefact; optimize the model again")
        size, written = path.stat().st_size, files[name]["bytes"]
        if size != written:
            raise ArtefactError(
                f"{folder}: {name} has {size} bytes where {written} were written; optimize the model again"
            )
    for name in code:
        if digest_of(folder / name) != files[name]["sha256"]:
            raise ArtefactError(f"{folder}: {name} is not the file that was written; optimize the model again")


def _signature(manifest: Mapping[str, Any]) -> Signature:
    return Signature(
        tuple(_tensor(entry) for entry in manifest["inputs"]),
        tuple(_tensor(entry) for entry in manifest["outputs"]),
        tuple(OutputSource(kind, place) for kind, place in manifest["sources"]),
        int(manifest["written"]),
        int(manifest["arena_bytes"]),
        int(manifest["threads"]),
        tuple(manifest["failures"]),
    )


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    return Tensor(entry["name"], TensorType(DataType(entry["dtype"]), tuple(Extent(size) for size in entry["shape"])))
