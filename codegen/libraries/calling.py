"""Functions of a C library that return a status, and handles that it makes and destroys."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

from codegen.libraries.library import LibraryError, NotSupported


class Functions:
    """The functions of a library by name. ``LibraryError`` where one returns another status than 0, which ``status_name`` names;
    ``NotSupported`` where that only says that the library does not do it.
    """

    def __init__(self, library: ctypes.CDLL, status_name: Callable[[int], str]) -> None:
        self._library, self._status_name = library, status_name

    def __call__(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            code = self._status_name(status)
            if "NOT_SUPPORTED" in code:
                raise NotSupported(
                    f"it is not supported here ({name}: {code}); optimize the model again on this machine"
                )
            raise LibraryError(code, name)

    def made(self, owner: object, kind: str, *arguments: Any) -> ctypes.c_void_p:
        """A handle from ``{kind}Create``, destroyed by ``{kind}Destroy`` once its owner is gone.

        Not when the process ends: the driver may have gone before.
        """
        return self._made(owner, f"{kind}Create", f"{kind}Destroy", *arguments)

    def made_before(self, owner: object, prefix: str, kind: str) -> ctypes.c_void_p:
        """As ``made``, by a library that says ``{prefix}Create{kind}``."""
        return self._made(owner, f"{prefix}Create{kind}", f"{prefix}Destroy{kind}")

    def _made(self, owner: object, create: str, destroy: str, *arguments: Any) -> ctypes.c_void_p:
        handle = ctypes.c_void_p()
        self(create, ctypes.byref(handle), *arguments)
        weakref.finalize(owner, getattr(self._library, destroy), handle).atexit = False
        return handle


def version_by(library: ctypes.CDLL, function: str) -> str:
    """The version that a function of the library tells as a number."""
    told = getattr(library, function)
    told.restype = ctypes.c_size_t
    number = told()
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def name_by(library: ctypes.CDLL, function: str) -> Callable[[int], str]:
    """The names of statuses by a function of the library."""
    named = getattr(library, function)
    named.restype = ctypes.c_char_p
    return lambda status: str(named(status).decode(errors="replace"))
