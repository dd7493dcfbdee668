"""Engines for tests: ONNX Runtime in disguise, right, wrong, or dying. They can be sent to another process."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tensoropt.ir.program import Array
from tensoropt.peers.onnxruntime import OnnxRuntime
from tensoropt.peers.peer import Refused, Run, Shapes

HELD_BYTES = 96 << 20


class Right(OnnxRuntime):
    name = "right"


class Wrong(OnnxRuntime):
    name = "wrong"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        right = super().prepare(model, shapes, threads)

        def run(feeds: Mapping[str, Array]) -> dict[str, Array]:
            return {name: 2 * value for name, value in right(feeds).items()}

        return run


class Refusing(OnnxRuntime):
    name = "refusing"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        raise Refused("it does not like the model")


class Raising(OnnxRuntime):
    name = "raising"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        raise ValueError("a defect\nof many lines")


class Crashing(OnnxRuntime):
    name = "crashing"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class Hanging(OnnxRuntime):
    name = "hanging"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        signal.pause()
        raise AssertionError


class Holding(OnnxRuntime):
    """Keeps memory for its model, and takes as much again while it loads."""

    name = "holding"

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        run = super().prepare(model, shapes, threads)
        held = np.ones(HELD_BYTES, np.uint8)
        np.ones(HELD_BYTES, np.uint8)
        return lambda feeds: run(feeds) if held[0] else {}


class Absent(OnnxRuntime):
    name = "absent"
    module = "a_module_that_is_not_there"
