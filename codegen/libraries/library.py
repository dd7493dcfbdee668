"""A vendor's library as the runtime needs it, behind one interface; which are installed, and which versions they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from codegen.cuda.driver import DriverError
from codegen.libraries.finding import NoLibrary, find
from codegen.libraries.operations import CUBLASLT, CUDNN, NAMES, LibraryCall
from tensoropt.errors import ArtefactError

Prepared = Callable[[Sequence[int]], None]
"""Puts a call on the stream, on the addresses of its pointers."""


class LibraryError(DriverError):
    """A call of a library that failed. ``code`` is the library's name of the error."""


class NotSupported(ArtefactError):
    """A library says that it does not do what is asked for."""


class Library(Protocol):
    """A library that works on one stream of one GPU. Every call may raise ``LibraryError``."""

    @property
    def version(self) -> str:
        """As its maker spells it, such as 13.1.0."""
        ...

    def prepared(self, call: LibraryCall) -> Prepared:
        """A call, ready to be made again and again. ArtefactError where the library has no such way to do it."""
        ...


Open = Callable[[str, int], Library]
"""(a library's name, the stream's handle) → the library, ready to work there. ``NoLibrary`` where it is not installed."""


def open_library(name: str, stream: int) -> Library:
    """A library of this machine for the context that is current. ``NoLibrary`` where it is not installed."""
    if name == CUBLASLT:
        from codegen.libraries.blaslt import BlasLt

        return BlasLt(find(name), stream)
    from codegen.libraries.cudnn import Cudnn

    return Cudnn(find(name), stream)


def installed() -> dict[str, str]:
    """The libraries of this machine and their versions; no GPU is needed for that."""
    from codegen.libraries import blaslt, cudnn

    found = {}
    for name, version_of in ((CUBLASLT, blaslt.version_of), (CUDNN, cudnn.version_of)):
        try:
            found[name] = version_of(find(name))
        except NoLibrary:
            continue
    return found


class Libraries:
    """The libraries that one table calls, each opened when it is first needed."""

    def __init__(self, stream: int, opened: Open) -> None:
        self._stream, self._open = stream, opened
        self._known: dict[str, Library] = {}
        self._prepared: dict[LibraryCall, Prepared] = {}

    def prepared(self, call: LibraryCall) -> Prepared:
        """See ``Library``. ArtefactError where the library is not installed, or in another version than the call's."""
        if call not in self._prepared:
            self._prepared[call] = self._library(call).prepared(call)
        return self._prepared[call]

    def _library(self, call: LibraryCall) -> Library:
        name = NAMES[call.library]
        if call.library not in self._known:
            try:
                self._known[call.library] = self._open(call.library, self._stream)
            except NoLibrary as error:
                raise ArtefactError(
                    f"it calls {name} {call.version} and {error}; pip install 'tensoropt[libraries]', "
                    "or optimize the model with --libraries none"
                ) from error
        library = self._known[call.library]
        if library.version != call.version:
            raise ArtefactError(
                f"it calls {name} {call.version} and {library.version} is installed; install {call.version}, "
                "or optimize the model again, with --libraries none where it is to run with any"
            )
        return library
