"""Measured times on disk; see ``tensoropt.disk_cache`` for where and how."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tensoropt.disk_cache import read_entry, sources_digest, write_entry

_KIND = "measured"


@cache
def generator_version() -> str:
    """A digest of the code generator's sources: another generator makes other kernels, whose times are not known."""
    return sources_digest([Path(__file__).resolve().parent.parent])


def read(key: str) -> dict[str, Any] | None:
    """A stored measurement; None where there is none or the file is damaged."""
    return read_entry(_KIND, f"{generator_version()} {key}")


def write(key: str, entry: dict[str, Any]) -> None:
    """Stores a measurement; a cache that cannot be written is no error."""
    write_entry(_KIND, f"{generator_version()} {key}", entry)
