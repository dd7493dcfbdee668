"""One example model against the peers, by `tensoropt.bench`, in a process of its own."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import tensoropt
from examples.models import BUILDERS, FORMULATIONS

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Settings:
    """How models are compared."""

    against: tuple[str, ...]
    threads: int
    blocks: int
    tune: str


def compare(name: str, batch: int, settings: Settings) -> dict[str, Any]:
    """What `tensoropt.bench` gives for a model; `formulation` says for each peer which of the model's it runs, the fastest."""
    with tempfile.TemporaryDirectory(prefix="tensoropt-benchmark-") as folder:
        files = {}
        for formulation in family(name):
            files[formulation] = Path(folder) / f"{formulation}.onnx"
            files[formulation].write_bytes(BUILDERS[formulation](batch).SerializeToString())
        result = tensoropt.bench(
            files[name],
            against=settings.against,
            threads=settings.threads,
            tune=settings.tune,
            blocks=settings.blocks,
            peer_models=list(files.values()),
        )
    for engine, row in result["engines"].items():
        row["formulation"] = name if engine == "tensoropt" else Path(row["model"]).stem
    return {**result, "model": name, "batch": batch}


def family(name: str) -> tuple[str, ...]:
    """All formulations of the model `name`, itself among them."""
    for model, others in FORMULATIONS.items():
        if name == model or name in others:
            return (model, *others)
    return (name,)


def isolated(
    function: Callable[Parameters, Result], *arguments: Parameters.args, **named: Parameters.kwargs
) -> Result | str:
    """Run a function in a process of its own, and return what it gives or what went wrong.

    A process each, so that no model is timed beside the threads or in the fragmented memory of the one before.
    """
    return limited(None, function, *arguments, **named)


def limited(
    seconds: float | None,
    function: Callable[Parameters, Result],
    *arguments: Parameters.args,
    **named: Parameters.kwargs,
) -> Result | str:
    """As ``isolated``; a process that takes longer than so many seconds is ended, and that is what went wrong."""
    if seconds is not None and seconds <= 0:
        return "there was no time left for it"
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, arguments, named))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            process.kill()
            return f"took longer than {seconds:.3g} s"
        found: Result | str = ours.recv()
        return found
    except EOFError:
        return "the process died"
    finally:
        ours.close()
        process.join()


def _answer(connection: Connection, function: Callable[..., object], arguments: Any, named: Any) -> None:
    try:
        found = function(*arguments, **named)
    except Exception as error:
        found = f"{type(error).__name__}: {error}".splitlines()[0]
    connection.send(found)
    connection.close()
