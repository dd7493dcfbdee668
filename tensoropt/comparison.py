"""Ours and other engines on one model: tried one by one, compared with one another, and timed in turns in one process.

Ours is timed twice, as two series in the same turns with the other engines loaded: the control. Where it is not 1.00 ± 0.03 the
machine was busy, and the figures say little.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensoropt.check import CheckResult, check_outputs
from tensoropt.errors import CheckError
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Array
from tensoropt.machine import whole_cores
from tensoropt.pass_manager import Progress
from tensoropt.peers.peer import Peer, Refused, Run, Shapes, brief
from tensoropt.peers.trial import Memory, Trial, first_run
from tensoropt.timing import IDLE_SECONDS, Series, alternate

OURS, CONTROL = "tensoropt", "control"
MIB = 1 << 20

TRIAL_SECONDS = 900.0
"""The longest that an engine may take for compiling a model and its first runs."""


class Ours(Peer):
    """An artefact folder as an engine."""

    name = OURS
    distribution = "tensoropt"
    module = "tensoropt.api"

    def import_library(self) -> None:
        from tensoropt.api import load_runtime

        load_runtime()

    def prepare(self, model: Path, shapes: Shapes, threads: int) -> Run:
        from tensoropt.api import load

        run: Run = load(model, threads).run
        return run


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared: an artefact folder, and the files of the model that the peers take, all of the same function."""

    artefact: Path
    models: Sequence[Path]
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    feeds: Mapping[str, Array]
    operand_roundoff: float = 0.0
    """By which share ours may round the operands of sums of products of f32."""

    @property
    def shapes(self) -> Shapes:
        """The extents of each input."""
        return {tensor.name: tuple(int(extent) for extent in tensor.shape) for tensor in self.inputs}


@dataclass(slots=True)
class Contender:
    """An engine that takes part."""

    engine: Peer
    run: Run
    model: Path
    """The file or folder that it runs."""
    memory: Memory | None
    results: Mapping[str, Array]
    """What its first run in this process gave."""
    check: CheckResult = field(default_factory=CheckResult)


def compare(
    subject: Subject,
    peers: Sequence[Peer],
    threads: int,
    blocks: int,
    progress: Progress,
    warn: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Everything that is measured, as plain data: ``engines`` by name, ``control``, ``cores``, ``reference`` and ``skipped``.

    ``warn`` gets a sentence for each peer that is skipped, at once. CheckError where ours differs from the reference, which is
    ONNX Runtime if it takes part, else the first peer that does.
    """
    skipped: dict[str, str] = {}

    def skip(name: str, reason: str) -> None:
        skipped[name] = reason
        warn(f"{name} is skipped: {reason}")

    progress("try", 0.0, OURS)
    ours = _ours(subject, threads, warn)
    contenders = []
    for number, peer in enumerate(peers, start=1):
        progress("try", number / (len(peers) + 1), peer.name)
        try:
            contenders.append(_contender(peer, subject, threads))
        except Refused as refusal:
            skip(peer.name, str(refusal))
    reference = next(
        (one for one in contenders if one.engine.name == "onnxruntime"), contenders[0] if contenders else None
    )
    if reference is not None:
        rounded = subject.operand_roundoff
        ours.check = check_outputs(subject.outputs, ours.results, reference.results, operand_roundoff=rounded)
        if ours.check.worst is not None:
            raise CheckError(_disagreement(ours, reference))
        for one in list(contenders):
            one.check = check_outputs(subject.outputs, one.results, reference.results)
            if one.check.worst is not None:
                contenders.remove(one)
                skip(one.engine.name, _disagreement(one, reference))
    progress("time", 0.0, ", ".join(one.engine.name for one in contenders))
    series, cores = _time([ours, *contenders], subject.feeds, threads, blocks)
    own = series[OURS].median
    return {
        "reference": reference.engine.name if reference else None,
        "engines": {one.engine.name: _row(one, series[one.engine.name], own) for one in (ours, *contenders)},
        "control": {**_series(series[CONTROL]), "ratio": own / series[CONTROL].median},
        "cores": cores,
        "idle_seconds": IDLE_SECONDS,
        "skipped": skipped,
    }


def _contender(peer: Peer, subject: Subject, threads: int) -> Contender:
    """The peer on the fastest of the models, each first run in a process of its own. Refused where it takes none."""
    reason = peer.missing()
    if reason is not None:
        raise Refused(reason)
    refusals, found = [], []
    for model in subject.models:
        try:
            trial = Trial(peer, model, subject.shapes, subject.feeds, threads)
            memory = first_run(trial, TRIAL_SECONDS)
            run, results = _prepared(trial)
            found.append(Contender(peer, run, model, memory, _named(results, subject, peer)))
        except Refused as refusal:
            refusals.append(str(refusal))
    if not found:
        raise Refused(refusals[0])
    if len(found) == 1:
        return found[0]
    runs = {str(number): lambda one=one: one.run(subject.feeds) for number, one in enumerate(found)}
    times = alternate(runs, 5)
    return found[min(range(len(found)), key=lambda number: times[str(number)].median)]


def _prepared(trial: Trial) -> tuple[Run, Mapping[str, Array]]:
    """The engine in this process, and what its first run gave. Where it narrows the processors of this process, that is undone."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        run = trial.engine.prepare(trial.model, trial.shapes, trial.threads)
        return run, run(trial.feeds)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"{trial.engine.name} does not run the model ({brief(error)})") from error
    finally:
        if usable is not None:
            os.sched_setaffinity(0, usable)


def _named(results: Mapping[str, Array], subject: Subject, peer: Peer) -> dict[str, Array]:
    """Outputs by the names that the model gives them; an engine may know one by another of its names, but keeps their order."""
    names = list(dict.fromkeys(tensor.name for tensor in subject.outputs))
    if len(results) != len(names):
        raise Refused(f"{peer.name} gives {len(results)} outputs where the model has {len(names)}")
    return dict(zip(names, results.values(), strict=True))


def _ours(subject: Subject, threads: int, warn: Callable[[str], None]) -> Contender:
    trial = Trial(Ours(), subject.artefact, subject.shapes, subject.feeds, threads)
    memory = None
    try:
        memory = first_run(trial, TRIAL_SECONDS)
    except Refused as refusal:
        warn(f"the memory of {OURS} is not known: {refusal}")
    run = trial.engine.prepare(trial.model, trial.shapes, trial.threads)
    return Contender(trial.engine, run, trial.model, memory, run(trial.feeds))


def _disagreement(one: Contender, reference: Contender) -> str:
    worst = one.check.worst
    assert worst is not None
    return (
        f"the output {worst.name!r} differs from that of {reference.engine.name} by {worst.max_abs_error:.3g} where "
        f"{worst.allowed:.3g} is allowed"
    )


def _time(
    contenders: Sequence[Contender], feeds: Mapping[str, Array], threads: int, blocks: int
) -> tuple[dict[str, Series], float]:
    """The series of each, ours a second time among them, and the cores that the machine gave, mean of before and after."""
    runs: dict[str, Callable[[], object]] = {one.engine.name: lambda one=one: one.run(feeds) for one in contenders}  # type: ignore[misc]
    runs[CONTROL] = runs[OURS]
    before = whole_cores(threads)
    series = alternate(runs, blocks)
    return series, (before + whole_cores(threads)) / 2


def _row(one: Contender, series: Series, ours: float) -> dict[str, Any]:
    ends = one.check.as_json()
    return {
        "version": one.engine.version(),
        **_series(series),
        "ratio": ours / series.median,
        "model": str(one.model),
        "peak_mib": None if one.memory is None else one.memory.peak / MIB,
        "resident_mib": None if one.memory is None else one.memory.resident / MIB,
        "max_abs_error": ends["max_abs_error"],
        "max_rel_error": ends["max_rel_error"],
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "median_ms": series.median,
        "quartiles_ms": list(series.quartiles),
        "blocks_ms": list(series.blocks),
        "calls_per_block": series.calls,
    }
