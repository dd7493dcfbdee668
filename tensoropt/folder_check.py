"""Artefact folders as they are run and checked: their inputs where none are given, and their results against ``optimized.onnx``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tensoropt.archives import read_arrays
from tensoropt.check import CheckResult, check_outputs, last_bits_changed, random_feeds
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array

PARAMETERS = "parameters.npz"
"""In the folder of a training step: the model's own values of the weights, which are inputs there."""


def folder_feeds(folder: Path, inputs: Iterable[Tensor], seed: int) -> dict[str, Array]:
    """Inputs for a folder: a training step's own weights, random values for the rest. InputError for a damaged file."""
    return {**random_feeds(inputs, seed), **folder_parameters(folder)}


def folder_parameters(folder: Path) -> dict[str, Array]:
    """The values of a training step's weights; none for other folders. InputError for a damaged file."""
    return read_arrays(folder / PARAMETERS) if (folder / PARAMETERS).exists() else {}


def folder_agreement(
    folder: Path,
    outputs: Sequence[Tensor],
    results: Mapping[str, Array],
    feeds: Mapping[str, Array],
    threads: int = 1,
    operand_roundoff: float = 0.0,
) -> CheckResult:
    """The outputs against what ONNX Runtime makes of the folder's ``optimized.onnx``; ``operand_roundoff`` as in ``check``."""
    from tensoropt.export.sessions import session_of_file

    session = session_of_file(folder / "optimized.onnx", threads)
    names = list(dict.fromkeys(tensor.name for tensor in outputs))

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    trains = (folder / PARAMETERS).exists()
    disturbed = run(last_bits_changed(feeds, 0)) if trains else None
    return check_outputs(outputs, results, run(feeds), disturbed, operand_roundoff)
