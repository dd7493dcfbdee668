"""Measured times on disk: one small file a measurement, written atomically, shared by all processes of a user."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs


def cache_folder() -> Path:
    """Where measurements are kept: TENSOROPT_CACHE_DIR, or the user's cache folder."""
    chosen = os.environ.get("TENSOROPT_CACHE_DIR")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("tensoropt"))


@cache
def generator_version() -> str:
    """A digest of the code generator's sources: another generator makes other kernels, whose times are not known."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(__file__).resolve().parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def measurement_path(key: str) -> Path:
    """The file of a measurement."""
    digest = hashlib.blake2b(f"{generator_version()} {key}".encode(), digest_size=20).hexdigest()
    return cache_folder() / "measured" / digest[:2] / f"{digest}.json"


def read(key: str) -> dict[str, Any] | None:
    """A stored measurement; None where there is none or the file is damaged."""
    try:
        entry = json.loads(measurement_path(key).read_text())
    except (OSError, ValueError):
        return None
    return entry if isinstance(entry, dict) and entry.get("key") == key else None


def write(key: str, entry: dict[str, Any]) -> None:
    """Stores a measurement; a cache that cannot be written is no error."""
    path = measurement_path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".partial", delete=False) as stream:
            json.dump({**entry, "key": key}, stream)
        os.replace(stream.name, path)
    except OSError:
        return
