"""Hot loops as machine code (numba), kept on disk under a digest of all of the planner's source.

numba renews what it keeps of a function when that function's file changes, and not when a function that it calls does; and
it writes beside the source, where an installed package may not be writable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import njit

from tensoropt.disk_cache import cache_folder

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code that runs without the interpreter's lock."""
    return _kept(function, "never")


def inlined(function: F) -> F:
    """The same, written out wherever it is called: calls with many arrays as arguments cost more than small loops."""
    return _kept(function, "always")


def _kept(function: F, inline: str) -> F:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_folder())
    try:
        made: F = njit(cache=True, nogil=True, inline=inline)(function)
    finally:
        numba.config.CACHE_DIR = before
    return made


@cache
def _folder() -> Path:
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(file.name.encode() + file.read_bytes())
    return cache_folder() / "compiled" / digest.hexdigest()
