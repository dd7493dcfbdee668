"""One prepared case on this machine: ours and its peers, compared with the same reference and timed in turns in one process.

Every call ends when the device has, inputs and outputs stay there, and each turn is a block of calls after 20 ms of rest
(`tensoropt.timing.alternate`). Ours takes part twice: the second series is the control. Times are a caller's, so a model of
50 µs is as much its engine's work on the host as the device's; ours and CUDA graphs have one launch there.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from examples.gpu.cases import Case
from examples.gpu.machine import clocks
from examples.gpu.measuring import furthest, ours
from examples.gpu.peers import Contender, Setting, found_peers, reference
from examples.gpu.prepared import OWN, load, report_of
from examples.runs import Row
from examples.tables import OURS
from tensoropt.check import END_TO_END, random_feeds
from tensoropt.errors import CheckError
from tensoropt.frontend import load_program
from tensoropt.ir.program import Array
from tensoropt.timing import Series, alternate

CONTROL = "control"
BLOCK_SECONDS = 0.1
BUDGET = 5.0
"""Seconds of one engine in all its blocks, so that a slow peer takes part in fewer."""


def measure(case: Case, prepared: Path, setting: Setting) -> Row:
    """Times, differences and what takes no part, as plain data; ``engines`` is as in `tensoropt.comparison`.

    CheckError where ours differs from the reference, UsageError where the case was not prepared.
    """
    folder = prepared / case.folder
    report = report_of(folder)
    device = "cuda" if report["target"].startswith("cuda") else "cpu"
    program = load_program(case.model()).program
    feeds = random_feeds(program.inputs, 0)
    tensors = _placed(feeds, device)
    contenders = {}
    for variant in report["variants"]:
        model = load(folder / variant, program.constants)
        contenders[variant] = Contender(ours(model, tensors), model.run(feeds), case.name)
    peers, skipped = found_peers(case, feeds, device, setting, folder)
    if "tvm" in report:
        skipped["tvm"] = report["tvm"]
    contenders |= peers
    name, exact = reference(case, feeds, device)
    differences = {engine: furthest(one.outputs, exact) for engine, one in contenders.items()}
    allowed = max(END_TO_END[tensor.dtype] for tensor in program.outputs)
    for engine, difference in differences.items():
        if not difference <= allowed:
            said = f"it differs from {name} by {difference:.2g} where {allowed:.2g} is allowed"
            if engine in OWN:
                raise CheckError(f"{engine}: {said}")
            skipped[engine] = said
            del contenders[engine]
    before, peaks = clocks(), [_peaks(case, device)]
    functions = {engine: one.call for engine, one in contenders.items()}
    series = alternate(
        {**functions, CONTROL: functions[OURS]}, setting.blocks, block_seconds=BLOCK_SECONDS, budget=BUDGET
    )
    peaks.append(_peaks(case, device))
    own = series[OURS].median
    return {
        "group": case.group,
        "model": case.name,
        "dtype": case.dtype,
        "batch": case.batch,
        "target": report["target"],
        "prepared": {"tune": report["tune"], "versions": report["versions"], **report["variants"]},
        "reference": name,
        "engines": {
            engine: {
                **_figures(series[engine]),
                "ratio": own / series[engine].median,
                "difference": differences[engine],
                "formulation": one.formulation,
            }
            for engine, one in contenders.items()
        },
        "control": {**_figures(series[CONTROL]), "ratio": own / series[CONTROL].median},
        "skipped": skipped,
        "copies": tensors is feeds,
        "clocks": [before, clocks()],
        **_least(case, peaks),
    }


def _placed(feeds: Mapping[str, Array], device: str) -> Mapping[str, Any]:
    """The inputs where ours takes them: on the GPU where torch can put them there, else on the host, and copied in every call."""
    if device != "cuda" or find_spec("torch") is None:
        return feeds
    from examples.gpu.torch_runs import placed

    return {name: placed(array, device) for name, array in feeds.items()}


def _peaks(case: Case, device: str) -> tuple[float, float] | None:
    """Operations and bytes a second that the device reaches now; None for models, and where there is no torch to ask."""
    if case.operator is None or find_spec("torch") is None:
        return None
    from examples.gpu.peaks import copy_rate, product_peak

    return product_peak(case.dtype, device), copy_rate(device)


def _least(case: Case, measured: list[tuple[float, float] | None]) -> Row:
    """What the operator must take at least by the peaks beside it: its operations or its bytes, whichever take longer."""
    operator, found = case.operator, [one for one in measured if one is not None]
    if operator is None:
        return {}
    moved = operator.elements * (4 if case.dtype == "f32" else 2)
    row: Row = {"operations": operator.operations, "bytes": moved}
    if not found:
        return row
    rate, copied = (max(values) for values in zip(*found, strict=True))  # a busy moment must not pass for the device
    computing, moving = operator.operations / rate, moved / copied
    return row | {
        "peak_flops": rate,
        "copy_bytes_per_second": copied,
        "bound": "arithmetic" if computing >= moving else "memory",
        "least_ms": 1e3 * max(computing, moving),
    }


def _figures(series: Series) -> Row:
    return {
        "median_ms": series.median,
        "quartiles_ms": list(series.quartiles),
        "blocks_ms": list(series.blocks),
        "calls_per_block": series.calls,
    }
