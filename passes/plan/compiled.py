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
    """The function as machine code that runs without the interpreter's lock.

    In the innermost loops a call that hands over many arrays costs more than what is called: LLVM has to write it out, which it
    does for small functions of few arguments. numba's own inlining counts references to every array that is handed over.
    """
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(_folder())
    try:
        made: F = njit(cache=True, nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = before
    return made


@cache
def _folder() -> Path:
    return cache_folder() / "compiled" / sources_digest([Path(__file__).parent])
