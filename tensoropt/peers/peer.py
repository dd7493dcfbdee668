"""What a peer is: another engine that runs ONNX models, and that ours is timed against."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from tensoropt.ir.program import Array
from tensoropt.machine import installed_version

Shapes = Mapping[str, tuple[int, ...]]
"""The extents of each input, in the model's order."""

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
"""One run: inputs by name to outputs by name. The outputs belong to the caller."""


class Refused(Exception):
    """An engine cannot take a model; the message is one sentence that says why."""


class Peer(Protocol):
    """An engine. Instances hold nothing, so that they can be sent to another process."""

    name: str
    """As ``--against`` names it."""
    distribution: str
    """What ``pip install`` calls it."""
    module: str
    """What is imported before memory is counted."""

    def missing(self) -> str | None:
        """One sentence why the engine cannot be used here; None where it can."""
        if find_spec(self.module) is None or not installed_version(self.distribution):
            return f"{self.name} is not installed; `pip install 'tensoropt[bench]'` brings it"
        return None

    def version(self) -> str:
        """The version that is installed."""
        return installed_version(self.distribution) or "unknown"

    def import_library(self) -> None:
        """Imports the engine, without any model."""
        importlib.import_module(self.module)

    @abstractmethod
    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        """A model file compiled for inputs of these shapes, as its users would for latency in f32 on so many threads.

        Refused where the engine cannot take the model.
        """


def brief(error: BaseException) -> str:
    """What an engine's error says, in one line of at most 300 characters, without OpenVINO's places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = " ".join(line for line in lines if line and not line.startswith(("Exception from ", "Check '")))
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
