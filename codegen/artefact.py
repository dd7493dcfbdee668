"""The artefact folder: library, weights and manifest, written beside its place and moved there in one step."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.reading import FORMAT, KIND, MANIFEST, WEIGHTS, digest_of, load, read_manifest
from tensoropt.errors import UsageError
from tensoropt.ir.expression import Tensor

if TYPE_CHECKING:
    from codegen.built import Built

__all__ = ["is_artefact", "load", "read_manifest", "require_replaceable", "save"]


def save(
    built: Built,
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
    require_replaceable(folder, force)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"{folder}: the artefact cannot be written there ({error.strerror})") from error
    try:
        partial.chmod(0o755)
        built.write(partial)
        with (partial / WEIGHTS).open("wb") as stream:
            built.weights.tofile(stream)
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


def require_replaceable(folder: Path, force: bool) -> None:
    """UsageError where something stands in the folder's place that is neither an artefact nor empty, unless forced."""
    if folder.exists() and not force and not is_artefact(folder) and not _is_empty(folder):
        raise UsageError(
            f"{folder} exists and is not an artefact; choose another folder with -o, or --force replaces it"
        )


def is_artefact(folder: Path) -> bool:
    """Whether a folder holds an artefact, of whatever version."""
    try:
        content = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == KIND


def _manifest(built: Built, folder: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    signature = built.signature
    return {
        "kind": KIND,
        "format": FORMAT,
        "inputs": [_tensor_as_json(tensor) for tensor in signature.inputs],
        "outputs": [_tensor_as_json(tensor) for tensor in signature.outputs],
        "sources": [[source.kind, source.place] for source in signature.sources],
        "written": signature.written,
        "arena_bytes": signature.arena_bytes,
        "threads": signature.threads,
        "failures": list(signature.failures),
        "target": built.target.describe(),
        "versions": _versions(),
        "memory_plan": {
            "arena_bytes": built.plan.arena_bytes,
            "peak_bytes": built.plan.peak_bytes,
            "offsets": dict(built.plan.offsets),
            "aliases": dict(built.plan.aliases),
            "workspaces": dict(built.plan.workspaces),
        },
        "kernels": built.kernels_as_json(),
        "files": {
            str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": digest_of(path)}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        **dict(extra),
    }


def _tensor_as_json(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "dtype": tensor.dtype.value, "shape": [int(extent) for extent in tensor.shape]}


def _versions() -> dict[str, str]:
    found = {}
    for package in ("tensoropt", "apache-tvm", "apache-tvm-ffi", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


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
