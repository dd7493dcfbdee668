"""``load`` and ``run``: artefact folders, and models that are compiled on the spot."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensoropt.api.compiled import CompiledModel
from tensoropt.api.optimizing import optimize
from tensoropt.api.requirements import require_limits
from tensoropt.archives import read_arrays, write_arrays
from tensoropt.errors import CheckError
from tensoropt.folder_check import folder_agreement, folder_feeds, folder_parameters
from tensoropt.ir.program import Array

if TYPE_CHECKING:
    from codegen.built import Model as LoadedModel


def load_runtime() -> None:
    """Loads what a model from an artefact folder needs to run, as ``load`` does. ArtefactError where it is not installed."""
    from codegen.artefact import load as _  # noqa: F401
    from codegen.runtime import load_runtime as load_libraries

    load_libraries()


def load(folder: str | os.PathLike[str], threads: int | None = None) -> LoadedModel:
    """A model from its artefact folder, ready to ``run``. ArtefactError for what is none, is damaged, or cannot run here."""
    from codegen.artefact import load as load_artefact

    return load_artefact(Path(folder), threads=threads)


def run(
    path: str | os.PathLike[str],
    *,
    target: str = "cpu",
    inputs: str | os.PathLike[str] | None = None,
    outputs: str | os.PathLike[str] | None = None,
    seed: int = 0,
    repeat: int = 1,
    threads: int | None = None,
    check: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Run an artefact folder, or a model that is compiled first for a ``target``, on an ``.npz`` file or on seeded random inputs.

    Weights of a training step that are not given are the model's own. Returns latency in milliseconds (median of ``repeat`` runs),
    a summary of each output, and with ``check`` the comparison with ONNX Runtime (for a folder, of its ``optimized.onnx``).
    InputError for inputs that do not fit, CheckError where results differ.
    """
    require_limits(threads, seed, None)
    folder = Path(path)
    if folder.is_dir():
        model: Any = load(folder, threads)
        tensors = model.inputs
    else:
        model = optimize(path, target, tune="off", threads=threads, check=check, shapes=shapes)
        tensors = model.program.inputs
    given = read_arrays(Path(inputs)) if inputs else None
    feeds = folder_feeds(folder, tensors, seed) if given is None else {**folder_parameters(folder), **given}
    results: dict[str, Array] = model.run(feeds)
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        results = model.run(feeds)
        times.append(time.perf_counter() - started)
    if outputs:
        write_arrays(Path(outputs), results)
    agreement = _check_run(folder, model, feeds, results) if check else None
    return {
        "latency_ms": sorted(times)[len(times) // 2] * 1e3,
        "repeat": repeat,
        "outputs": {name: _summary(array) for name, array in results.items()},
        "check": agreement,
    }


def _check_run(folder: Path, model: Any, feeds: Mapping[str, Array], results: Mapping[str, Array]) -> dict[str, Any]:
    if isinstance(model, CompiledModel):
        return model.check.as_json()
    from codegen.reading import operand_roundoff

    result = folder_agreement(folder, model.outputs, results, feeds, operand_roundoff=operand_roundoff(folder))
    if result.worst is not None:
        raise CheckError(
            f"{folder}: the output {result.worst.name!r} differs from ONNX Runtime's by {result.worst.max_abs_error:.3g} where "
            f"{result.worst.allowed:.3g} is allowed"
        )
    return result.as_json()


def _summary(array: Array) -> dict[str, Any]:
    import numpy as np

    wide = array.astype(np.float64)
    return {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "mean": float(wide.mean()) if array.size else 0.0,
        "std": float(wide.std()) if array.size else 0.0,
    }
