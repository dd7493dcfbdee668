"""What is kept on disk between runs: small JSON files in the user's cache folder, shared by all processes of the user.

A file is written beside its place and moved there in one step, so a reader sees a whole file or none, whoever else writes and
whenever a writer is killed. What a file says is checked by whoever reads it; a damaged file counts as absent.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import platformdirs

KINDS = {"derived": "derivations", "compiled": "the planner's loops as machine code", "cubins": "CUDA code of kernels"}
"""The folders of the cache, and what they hold. Times of kernels are in the tuning database, one file beside them."""

_ABANDONED_SECONDS = 3600.0
"""A partial file of this age belongs to a writer that was killed."""


def cache_folder() -> Path:
    """Where everything is kept: TENSOROPT_CACHE_DIR, or the user's cache folder."""
    chosen = os.environ.get("TENSOROPT_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("tensoropt"))


def entry_path(kind: str, key: str) -> Path:
    """The file of an entry; ``kind`` names a folder of the cache, ``key`` may be any text."""
    digest = hashlib.blake2b(key.encode(), digest_size=20).hexdigest()
    return cache_folder() / kind / digest[:2] / f"{digest}.json"


def read_entry(kind: str, key: str) -> dict[str, Any] | None:
    """A stored entry; None where there is none, or the file is damaged or of another key."""
    try:
        entry = json.loads(entry_path(kind, key).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and entry.get("key") == key else None


def write_entry(kind: str, key: str, entry: dict[str, Any]) -> None:
    """Stores an entry, complete or not at all; a cache that cannot be written is no error."""
    path = entry_path(kind, key)
    text = json.dumps({**entry, "key": key})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        stream = tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".partial", delete=False)  # noqa: SIM115
    except OSError:
        return
    try:
        with stream:
            stream.write(text)
        os.replace(stream.name, path)
    except OSError:
        Path(stream.name).unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Removes what killed writers left."""
    for partial in folder.glob("*.partial"):
        try:
            if time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS:
                partial.unlink()
        except OSError:
            continue  # another process was faster


def entries(kind: str) -> list[Path]:
    """The files of all entries of a kind, and what killed writers left."""
    folder = cache_folder() / kind
    if kind == "compiled":  # written by numba
        return [*folder.glob("*/*/*.nb[ic]"), *folder.glob("*/*/*.nb[ic].*")]
    return [path for path in folder.glob("??/*") if path.suffix in (".json", ".partial")]


def clear(kind: str) -> None:
    """Removes all entries of a kind, and nothing else that may stand in the folder."""
    for path in entries(kind):
        path.unlink(missing_ok=True)


def sources_digest(roots: Iterable[Path]) -> str:
    """A digest of all Python sources below some folders: entries that other sources made are not comparable."""
    digest = hashlib.blake2b(digest_size=16)
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
