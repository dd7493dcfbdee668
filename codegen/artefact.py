"""The artefact folder: library, weights and manifest, written beside its place and moved there in one step."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.runtime import CompiledModel, OutputSource, Signature, load_runtime
from codegen.targets.cpu import runtime_features
from tensoropt.errors import ArtefactError, UsageError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.types import DataType, Extent, TensorType

if TYPE_CHECKING:
    from codegen.build import BuiltProgram

FORMAT = 1
"""Grows with every change that older versions cannot read."""

MANIFEST, LIBRARY, WEIGHTS = "manifest.json", "model.so", "weights.bin"
_KIND = "tensoropt artefact"


def save(
    built: BuiltProgram,
    folder: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    extra: Mapping[str, Any] | None = None,
    force: bool = False,
    write: Callable[[Path], None] | None = None,
) -> Path:
    """Writes the folder and returns its path.

    ``files`` are further files by relative name, ``extra`` joins the manifest, ``write`` may write more into the new folder.
    An existing folder is replaced only where it is an artefact or with ``force``; UsageError otherwise.
    """
    folder = Path(folder).absolute()
    if folder.exists() and not force and not is_artefact(folder) and not _is_empty(folder):
        raise UsageError(f"{folder} exists and is not an artefact; choose another folder with -o, or --force replaces it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"{folder}: the artefact cannot be written there ({error.strerror})") from error
    try:
        partial.chmod(0o755)
        _link(built.module, partial / LIBRARY)
        with (partial / WEIGHTS).open("wb") as stream:
            stream.write(memoryview(built.weights))
        for name, content in (files or {}).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        if write is not None:
            write(partial)
        (partial / MANIFEST).write_text(json.dumps(_manifest(built, partial, extra or {}), indent=1) + "\n")
        _replace(partial, folder)
    except OSError as error:
        raise UsageError(f"{folder}: the artefact cannot be written there ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def load(folder: Path, threads: int | None = None) -> CompiledModel:
    """The model of an artefact folder. ArtefactError for what is none, is damaged, or cannot run on this machine."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    missing = sorted(set(manifest["target"]["features"]) - set(runtime_features()))
    if missing and runtime_features():
        raise ArtefactError(
            f"{folder} was compiled for a processor with {', '.join(missing[:4])}, which this one does not have; "
            "compile the model again on this machine"
        )
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["bytes"]:
            raise ArtefactError(f"{folder} is damaged: {name} is missing or has the wrong size")
        if name == LIBRARY and _digest(path) != entry["sha256"]:
            raise ArtefactError(f"{folder} is damaged: the content of {name} changed")
    load_runtime()
    import tvm_ffi

    try:
        module = tvm_ffi.load_module(str(folder.absolute() / LIBRARY))
    except RuntimeError as error:
        raise ArtefactError(f"{folder} is damaged: {LIBRARY} cannot be loaded ({error})") from error
    weights = np.memmap(folder / WEIGHTS, np.uint8, "r")
    return CompiledModel(module["main"], _signature(manifest), weights, keep=module, threads=threads)


def is_artefact(folder: Path) -> bool:
    """Whether a folder holds an artefact, of whatever version."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == _KIND


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its form checked."""
    if not folder.is_dir():
        raise ArtefactError(f"{folder} is not a folder")
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise ArtefactError(f"{folder} is not an artefact: it has no {MANIFEST}") from error
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{folder} is damaged: {MANIFEST} cannot be read ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        raise ArtefactError(f"{folder} is not an artefact: its {MANIFEST} is something else's")
    if manifest.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder} has the format {manifest.get('format')}, this version reads {FORMAT}; compile the model again"
        )
    needed = {"inputs", "outputs", "sources", "written", "arena_bytes", "threads", "target", "files"}
    absent = sorted(needed - set(manifest))
    if absent or not {LIBRARY, WEIGHTS} <= set(manifest["files"]):
        raise ArtefactError(f"{folder} is damaged: {MANIFEST} lacks {absent[0] if absent else 'files'}")
    return manifest


def _manifest(built: BuiltProgram, folder: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    signature = built.signature
    return {
        "kind": _KIND,
        "format": FORMAT,
        "inputs": [_tensor_as_json(tensor) for tensor in signature.inputs],
        "outputs": [_tensor_as_json(tensor) for tensor in signature.outputs],
        "sources": [[source.kind, source.place] for source in signature.sources],
        "written": signature.written,
        "arena_bytes": signature.arena_bytes,
        "threads": signature.threads,
        "target": built.target.describe(),
        "versions": _versions(),
        "memory_plan": {
            "arena_bytes": built.plan.arena_bytes,
            "peak_bytes": built.plan.peak_bytes,
            "offsets": dict(built.plan.offsets),
            "aliases": dict(built.plan.aliases),
        },
        "kernels": built.kernels_as_json(),
        "files": {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _digest(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        **dict(extra),
    }


def _tensor_as_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.value, "shape": [int(extent) for extent in tensor.shape]}


def _tensor(entry: Mapping[str, Any]) -> Tensor:
    return Tensor(entry["name"], TensorType(DataType(entry["dtype"]), tuple(Extent(size) for size in entry["shape"])))


def _signature(manifest: Mapping[str, Any]) -> Signature:
    return Signature(
        tuple(_tensor(entry) for entry in manifest["inputs"]),
        tuple(_tensor(entry) for entry in manifest["outputs"]),
        tuple(OutputSource(kind, place) for kind, place in manifest["sources"]),
        manifest["written"],
        manifest["arena_bytes"],
        manifest["threads"],
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("tensoropt", "apache-tvm", "apache-tvm-ffi", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and next(folder.iterdir(), None) is None


def _replace(partial: Path, folder: Path) -> None:
    """Moves the new folder to its place; what was there is moved aside first and deleted after."""
    if not folder.exists():
        os.rename(partial, folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    os.rename(folder, aside / "old")
    os.rename(partial, folder)
    shutil.rmtree(aside, ignore_errors=True)


def _link(module: Any, library: Path) -> None:
    """The module as a shared library, by whichever linker there is."""
    compiled = library.with_suffix(".o")
    module.write_to_file(str(compiled), "o")
    commands = [[tool, "-shared", "-fPIC"] for tool in ("cc", "gcc", "clang")]
    commands += [[tool, "-shared"] for tool in ("ld", "ld.lld", "ld.gold")]
    for command in commands:
        if shutil.which(command[0]) is None:
            continue
        tail = ["-lm"] if command[0] in ("cc", "gcc", "clang") else []
        done = subprocess.run([*command, "-o", str(library), str(compiled), *tail], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            compiled.unlink()
            return
        failure = done.stderr.strip().splitlines()
        raise UsageError(f"the linker {command[0]} failed: {failure[-1] if failure else 'no message'}")
    raise UsageError("no linker was found (cc, gcc, clang or ld); install one to write artefacts")
