"""What every compiled program is, whatever it was compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from codegen.signature import Signature
from tensoropt.allocation import Placement
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array, Program, Statement


class Target(Protocol):
    """What programs are compiled for."""

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda`` or ``opencl``."""
        ...

    @property
    def key(self) -> str:
        """What measured times depend on."""
        ...

    def describe(self) -> dict[str, Any]:
        """The target as plain data for a manifest."""
        ...


class Model(Protocol):
    """A model that is ready to run."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The inputs in the model's order."""
        ...

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """The outputs in the model's order."""
        ...

    @property
    def arena_bytes(self) -> int:
        """Memory that one run needs beside inputs, outputs and weights."""
        ...

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs by name. InputError for names, types or shapes that do not fit."""
        ...


class Built(Protocol):
    """A compiled program: run it here through ``model()``, or write it with ``codegen.artefact.save``."""

    program: Program
    plan: Placement
    weights: Array
    signature: Signature

    @property
    def target(self) -> Target:
        """What it was compiled for."""
        ...

    def model(self) -> Model:
        """The program, ready to run in this process."""
        ...

    def execute(self, statement: Statement, values: Mapping[str, Array]) -> dict[str, Array]:
        """One statement through the kernel that the program has for it, on given values; for checks."""
        ...

    def write(self, folder: Path) -> None:
        """The files that a run needs, weights apart."""
        ...

    def kernels_as_json(self) -> list[dict[str, Any]]:
        """What ``optimize --json`` tells of the kernels, in order."""
        ...
