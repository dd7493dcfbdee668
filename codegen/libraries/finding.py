"""Where a vendor's library is: in NVIDIA's wheels, or where the system's loader looks."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from codegen.libraries.operations import CUBLASLT, CUDNN, NAMES

_FILES = {
    CUBLASLT: (
        ("nvidia/cu13/lib", "libcublasLt.so.13"),
        ("nvidia/cublas/lib", "libcublasLt.so.12"),
    ),
    CUDNN: (("nvidia/cudnn/lib", "libcudnn.so.9"),),
}
"""(folder in the wheels, name), the newest first: wheels for CUDA 13 share a folder, those for CUDA 12 have one each."""


class NoLibrary(Exception):
    """A library is not installed, or does not load; the message says so, as the end of a sentence."""


@cache
def find(name: str) -> ctypes.CDLL:
    """The library, loaded once. ``NoLibrary`` where it is not there."""
    failed = ""
    for candidate in _candidates(name):
        try:
            return ctypes.CDLL(candidate)
        except OSError as error:
            failed = failed or (str(error).splitlines()[0] if "/" in candidate else "")
    if failed:
        raise NoLibrary(f"{NAMES[name]} does not load ({failed})")
    raise NoLibrary(f"{NAMES[name]} is not installed")


def _candidates(name: str) -> Iterator[str]:
    for folder, file in _FILES[name]:
        for root in sys.path:
            path = Path(root) / folder / file
            if path.is_file():
                yield str(path)
    for _, file in _FILES[name]:
        yield file
