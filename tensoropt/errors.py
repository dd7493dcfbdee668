"""Every error that a user can cause, with the exit status of the command line's contract.

A message is one sentence that names the file, the node and what to do.
"""

from __future__ import annotations


class TensoroptError(Exception):
    """Base of all errors with a message for people; anything else that escapes is an internal error (status 1)."""

    exit_status = 1


class UsageError(TensoroptError):
    """Wrong options or arguments."""

    exit_status = 2


class ModelError(TensoroptError):
    """A model that cannot be read, is not valid, or holds what nothing here can compile."""

    exit_status = 2


class ParseError(ModelError):
    """Program text that does not parse. ``line`` and ``column`` count from 1."""

    def __init__(self, message: str, line: int, column: int, source_line: str = "") -> None:
        caret = f"\n    {source_line}\n    {' ' * (column - 1)}^" if source_line else ""
        super().__init__(f"program text, line {line}, column {column}: {message}{caret}")
        self.line = line
        self.column = column


class ArtefactError(TensoroptError):
    """A folder that is not an artefact, is damaged, or was made for another machine or version."""

    exit_status = 2


class InputError(TensoroptError):
    """Run-time inputs that do not fit the model (names, types, shapes, indices out of range)."""

    exit_status = 2


class NoPlanError(TensoroptError):
    """No plan for the memory budget.

    ``smallest_bytes`` is the smallest that is known to fit, where one is.
    """

    exit_status = 3

    def __init__(
        self,
        message: str,
        budget_bytes: int | None = None,
        smallest_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.budget_bytes, self.smallest_bytes = budget_bytes, smallest_bytes


class CheckError(TensoroptError):
    """The compiled model's result differs from the reference."""

    exit_status = 4


class DeviceError(TensoroptError):
    """Devices behind a network that were there when something was begun, and are not any more."""

    exit_status = 2
