"""The artefact folder: written beside its place and moved there in one step, and read back with every doubt resolved first.

model.so        machine code; entry ``main``
weights.bin     constants, each at a multiple of 64 bytes; memory-mapped
manifest.json   format, versions, target, inputs, outputs, plan, kernels, sizes and hashes of the files
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codegen.build import BuiltProgram
from codegen.reading import FORMAT, LIBRARY, MANIFEST, WEIGHTS, load
from codegen.runtime import CompiledModel
from tensoropt.errors import UsageError
from tensoropt.ir.expression import Tensor

__all__ = ["CompiledModel", "load", "require_replaceable", "save"]


def save(
    built: BuiltProgram,
    folder: Path,
    *,
    files: Mapping[str, bytes] | None = None,
    extra: Mapping[str, Any] | None = None,
    force: bool = False,
    write: Callable[[Path], None] = lambda folder: None,
) -> Path:
    """Write the artefact. ``files`` are further files by relative name, ``extra`` further manifest entries, ``write`` adds what is
    too large to hold in memory twice. UsageError where something that is no artefact is in the way, or nothing can be written."""
    require_replaceable(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"{folder}: the artefact cannot be written there ({error.strerror})") from error
    try:
        if built.steps:
            built.export_library(partial / LIBRARY)
        built.weights.assembled().tofile(partial / WEIGHTS)
        for name, content in (files or {}).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        write(partial)
        manifest = {**_manifest(built, partial), **(extra or {})}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
        os.chmod(partial, 0o755)
        _move(partial, folder)
    except OSError as error:
        raise UsageError(f"{folder}: the artefact cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def require_replaceable(folder: Path, force: bool) -> None:
    """UsageError unless the place is free, an artefact or an empty folder; ``force`` lets any folder go."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"{folder}: a file is in the way of the artefact folder")
    if folder.is_dir() and any(folder.iterdir()) and not force and not _is_artefact(folder):
        raise UsageError(f"{folder}: this folder is not an artefact and is not replaced without --force")


def _is_artefact(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / MANIFEST).read_text())["format"]["name"] == FORMAT["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _move(partial: Path, folder: Path) -> None:
    """Put the finished folder in its place; an old one steps aside first and is removed last."""
    if not folder.exists():
        partial.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(old / "folder")
    try:
        partial.rename(folder)
    except OSError:
        (old / "folder").rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _manifest(built: BuiltProgram, folder: Path) -> dict[str, Any]:
    from importlib.metadata import version

    from tensoropt import __version__

    program, plan = built.program, built.plan
    return {
        "format": FORMAT,
        "versions": {"tensoropt": __version__, "tvm": version("apache-tvm"), "tvm_ffi": version("apache-tvm-ffi")},
        "target": built.target.describe(),
        "inputs": [_describe(tensor) for tensor in program.inputs],
        "outputs": [_describe(tensor) for tensor in program.outputs],
        "computed": [tensor.name for tensor in built.signature.written],
        "constant_outputs": dict(built.constant_outputs),
        "memory": {
            "arena_bytes": built.arena_bytes,
            "workspace_bytes": built.workspace_bytes,
            "peak_bytes": plan.peak_bytes,
            "offsets": dict(plan.offsets),
            "aliases": dict(plan.aliases),
        },
        "kernels": built.kernels_as_json(),
        "has_code": bool(built.steps),
        "files": {
            file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": _hash(file)}
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        },
    }


def _describe(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.value, "shape": [int(extent) for extent in tensor.shape]}


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
