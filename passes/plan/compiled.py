"""Hot loops as machine code (numba), kept on disk under a digest of all of the planner's source.

numba renews what it keeps of a function when that function's file changes, and not when a function that it calls does; and
it writes beside the source, where an installed package may not be writable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba import njit

from tensoropt.disk_cache import cache_folder, sources_digest

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
    return cache_folder() / "compiled" / sources_digest([Path(__file__).parent])
