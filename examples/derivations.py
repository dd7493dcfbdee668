"""What the search finds from bare operators: `python -m examples.derivations [CASE ...] [--json FILE] [--markdown FILE]`.

A case is one operator at real sizes and a form that it should derive to. The search gets the operator alone: which form is wanted
is asked of its results, for the table. Each case runs in a process of its own, so that no cache is warm. Times are wall seconds
and, in brackets, processor seconds; a candidate counts from when its certificate is checked.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from math import ceil, inf
from pathlib import Path
from time import monotonic, perf_counter, process_time
from typing import Any, Protocol

from examples.bare_operators import convolution, expression, pooling, transposed_convolution
from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.certify.certificate import Checker
from passes.derive.operators.matching import LibraryMatch
from passes.derive.reductions import derive_reduction, explored_reductions
from passes.derive.search import Visit, checked_draft, derive, explored
from tensoropt.ir.program import Compute
from tensoropt.ir.structure import is_mover
from tensoropt.rewrite.rule import Refusal

LIMITS = SearchLimits(states=2000, depth=10, candidates=8, dearer=inf)
"""The same for every case."""
SECONDS = 10.0
"""Wall time for a case, the checks included."""


class Rewritten(Protocol):
    """What a form is asked of: a candidate or a draft of one."""

    @property
    def matched(self) -> tuple[LibraryMatch, ...]:
        """The library operators of it."""
        ...

    @property
    def statements(self) -> tuple[Compute, ...]:
        """All of its statements."""
        ...


Form = Callable[[Rewritten], bool]


Explore = Callable[
    [Compute, Collection[str], SearchLimits, Collection[str], SearchReport, float | None], Iterable[Visit]
]
Search = Callable[
    [Compute, Collection[str], SearchLimits, Collection[str], SearchReport, float | None], list[Candidate]
]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case; seconds are wall and processor seconds, costs are estimated milliseconds."""

    found: bool
    chain: tuple[str, ...] = ()
    pattern: str = ""
    states_first: int = 0
    states: int = 0
    first_seconds: tuple[float, float] = (inf, inf)
    seconds: tuple[float, float] = (inf, inf)
    cost_wanted: float = inf
    cost_best: float = inf
    best: str = ""
    truncated: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A name, the form that is wanted in words, and what measures it."""

    name: str
    wanted: str
    measure: Callable[[], Result]


def searched(
    build: Callable[[], Compute],
    form: Form,
    constants: tuple[str, ...] = ("K",),
    explored: Explore = explored,
    derive: Search = derive,
) -> Callable[[], Result]:
    """The measurement of an operator that is searched from: the first checked candidate of the form, then everything."""

    def measure() -> Result:
        compute = build()
        report = SearchReport()
        first = None
        started, worked = perf_counter(), process_time()
        for visit in explored(compute, constants, LIMITS, (), report, monotonic() + SECONDS):
            if form(visit.draft):
                candidate = checked_draft(Checker(), compute, visit)
                if not isinstance(candidate, Refusal):
                    first = candidate, perf_counter() - started, process_time() - worked, report.visited
                    break
                report.rejected.append(candidate.reason)
        report = SearchReport()
        started, worked = perf_counter(), process_time()
        found = derive(compute, constants, LIMITS, (), report, monotonic() + SECONDS)
        seconds = perf_counter() - started, process_time() - worked
        if first is None:
            note = report.rejected[0] if report.rejected else report.nearest
            label = found[0].label if found else ""
            return Result(False, best=label, states=report.visited, seconds=seconds, note=note)
        candidate, wall, processor, states = first
        wanted = min([candidate, *filter(form, found)], key=lambda other: other.estimated_seconds)
        best = min([candidate, *found], key=lambda other: other.estimated_seconds)
        return Result(
            True,
            tuple(step.rule for step in candidate.derivation.steps),
            candidate.label,
            states,
            report.visited,
            (wall, processor),
            seconds,
            wanted.estimated_seconds * 1e3,
            best.estimated_seconds * 1e3,
            best.label,
            report.truncated,
            "; ".join(dict.fromkeys(report.rejected)),
        )

    return measure


def _parameters(found: Rewritten, *operators: str) -> Iterable[dict[str, object]]:
    return (dict(match.parameters) for match in found.matched if match.operator in operators)


def is_matmul(rows: int, columns: int, sums: int, batch: int = 1) -> Form:
    """A matmul of these sizes, either operand on the left, the batch as an axis of its own or among rows or columns."""

    def form(found: Rewritten) -> bool:
        return any(
            sorted((one["m"], one["n"])) == sorted((rows, columns))  # type: ignore[type-var]
            and one["k"] == sums
            and one["batch"] == batch
            for one in _parameters(found, "matmul", "batch_matmul")
        )

    return form


def is_convolution(**wanted: object) -> Form:
    """A convolution with these parameters, whatever the others."""

    def form(found: Rewritten) -> bool:
        return any(wanted.items() <= one.items() for one in _parameters(found, "convolution"))

    return form


def is_band(operator: str, **wanted: object) -> Form:
    """A band matmul with these parameters, whatever the others."""

    def form(found: Rewritten) -> bool:
        return any(wanted.items() <= one.items() for one in _parameters(found, operator))

    return form


def _transposed_to_matmul(
    images: int, channels: int, height: int, filters: int, kernel: int, stride: int, padding: int, extra: int = 0
) -> Case:
    build = transposed_convolution(images, channels, height, filters, kernel, stride, padding, extra)
    form = is_matmul(images * height * height, kernel * kernel * filters, channels)
    last = ",1" if extra else ""
    name = f"ConvTranspose ({kernel},{stride},{padding}{last}) {images}x{channels}x{height}x{height} to {filters}"
    return Case(name, "matmul + gather-add", searched(build, form))


def _transposed_to_subpixel(
    images: int, channels: int, height: int, filters: int, kernel: int, stride: int, padding: int, extra: int = 0
) -> Case:
    build = transposed_convolution(images, channels, height, filters, kernel, stride, padding, extra)
    form = is_convolution(channels=channels, filters=filters * stride * stride, strides=(1, 1), dilations=(1, 1))
    name = f"ConvTranspose ({kernel},{stride},{padding}) {channels}x{height}x{height} to {filters}"
    return Case(name, "sub-pixel: dense conv + depth to space", searched(build, form))


def _dilated(dilation: int, height: int) -> Case:
    build = convolution(1, 512, height, height, 512, (3, 3), 1, dilation, 1, (dilation,) * 4)
    form = is_convolution(images=dilation * dilation, channels=512, filters=512, kernel=(3, 3), dilations=(1, 1))
    return Case(
        f"Conv3x3 dilation {dilation} 512x{height}x{height}", "space to batch + dense conv", searched(build, form)
    )


def _band(batch: int, rows: int, width: int, window: int, dilation: int) -> Case:
    text = (
        f"L<b:{batch}, m:{rows}, w:{2 * window + 1}> sum<k:{width}> "
        f"%A[b, m, k] * %B[b, m + {dilation}*w - {dilation * window}, k]"
    )
    build = expression(text, A=(batch, rows, width), B=(batch, rows, width))
    form = is_band("band_matmul", batch=batch * dilation, m=ceil(rows / dilation), dilation=1)
    name = f"band matmul dilation {dilation}, {batch}x{rows}x{width}, {2 * window + 1} diagonals"
    return Case(name, "batch-folded undilated band matmul", searched(build, form, ()))


def _band_transposed(batch: int, rows: int, width: int, window: int, dilation: int) -> Case:
    text = (
        f"L<b:{batch}, m:{rows}, n:{width}> sum<w:{2 * window + 1}> "
        f"%A[b, m, w] * %B[b, m + {dilation}*w - {dilation * window}, n]"
    )
    build = expression(text, A=(batch, rows, 2 * window + 1), B=(batch, rows, width))
    form = is_band("matmul_band", batch=batch * dilation, m=ceil(rows / dilation), dilation=1)
    name = f"band times general dilation {dilation}, {batch}x{rows}x{width}, {2 * window + 1} diagonals"
    return Case(name, "batch-folded undilated band matmul", searched(build, form, ()))


def _long_kernel(kernel: tuple[int, int]) -> Case:
    build = convolution(1, 512, 28, 28, 21, kernel, pads=(kernel[0] // 2, kernel[1] // 2) * 2)
    form = is_matmul(28 * 28, 11 * 21, 512)
    return Case(f"Conv{kernel[0]}x{kernel[1]} 512x28x28 to 21", "matmul + offset-add", searched(build, form))


def _pointwise(stride: int) -> Case:
    build = convolution(1, 512, 28, 28, 1024, (1, 1), stride)
    form = is_matmul((28 // stride) ** 2, 1024, 512)
    return Case(f"Conv1x1 stride {stride} 512x28x28 to 1024", "matmul", searched(build, form))


def intra_cases() -> dict[str, Case]:
    """The cases that one expression's search solves, by number and letter."""
    grouped = convolution(1, 128, 56, 56, 128, (3, 3), 1, 1, 32, (1, 1, 1, 1))
    wide = convolution(16, 32, 224, 224, 1, (5, 5), pads=(2, 2, 2, 2))
    patches = convolution(1, 3, 224, 224, 768, (16, 16), 16)
    stem = convolution(1, 3, 224, 224, 64, (7, 7), 2, pads=(3, 3, 3, 3))
    small = convolution(1, 512, 7, 7, 512, (3, 3), pads=(1, 1, 1, 1))
    return {
        "1": Case("Conv3x3 512x7x7 to 512", "matmul + offset-add", searched(small, is_matmul(49, 4608, 512))),
        "2a": _transposed_to_matmul(16, 448, 2, 256, 4, 2, 1),
        "2b": _transposed_to_matmul(1, 512, 4, 256, 4, 1, 0),
        "2c": _transposed_to_matmul(1, 56, 32, 1, 9, 4, 3, 1),
        "2d": _transposed_to_matmul(1, 256, 8, 128, 3, 2, 1),
        "2e": _transposed_to_matmul(1, 128, 16, 64, 6, 3, 2),
        "2f": _transposed_to_matmul(1, 128, 16, 64, 5, 3, 1),
        "3a": _transposed_to_subpixel(1, 128, 16, 64, 4, 2, 1),
        "3b": _transposed_to_subpixel(1, 128, 16, 64, 3, 2, 1),
        "3c": _transposed_to_subpixel(1, 56, 32, 1, 9, 4, 3, 1),
        "4": Case(
            "Conv5x5 32x224x224 to 1, batch 16",
            "Conv3x3 with 4F filters + offset-add",
            searched(wide, is_convolution(images=16, channels=32, filters=4, kernel=(3, 3), strides=(1, 1))),
        ),
        "5a": _dilated(2, 14),
        "5b": _dilated(3, 14),
        "5c": _dilated(6, 14),
        "6a": _band(8, 10000, 64, 1000, 4),
        "6b": _band(8, 4096, 64, 256, 2),
        "6c": _band_transposed(8, 10000, 64, 1000, 4),
        "6d": _band_transposed(8, 4096, 64, 256, 2),
        "7a": _long_kernel((1, 11)),
        "7b": _long_kernel((11, 1)),
        "8a": _pointwise(1),
        "8b": _pointwise(2),
        "9": Case("patch 16x16 3x224x224 to 768", "reshape + matmul", searched(patches, is_matmul(196, 768, 768))),
        "10": Case(
            "Conv3x3 32 groups 128x56x56 to 128",
            "batched matmul",
            searched(grouped, lambda found: any(one["batch"] == 32 for one in _parameters(found, "batch_matmul"))),
        ),
        "16": Case(
            "Conv7x7 stride 2 3x224x224 to 64",
            "space to depth + conv",
            searched(stem, is_convolution(channels=12, filters=64, kernel=(4, 4), strides=(1, 1))),
        ),
    }


def is_nested(levels: int) -> Form:
    """So many folds that read one another, each over a single iterator."""

    def form(found: Rewritten) -> bool:
        folds = [statement.expression for statement in found.statements]
        return len(folds) == levels and all(len(fold.reduction) == 1 for fold in folds)

    return form


def is_fold_of_views(found: Rewritten) -> bool:
    """A fold that reads views of the data."""
    return len(found.statements) == 2 and is_mover(found.statements[0].expression)


def _pooled(name: str, build: Callable[[], Compute], wanted: str, form: Form) -> Case:
    return Case(name, wanted, searched(build, form, (), explored_reductions, derive_reduction))


def fold_cases() -> dict[str, Case]:
    """The cases of folds that are no contraction."""
    means = pooling("AveragePool", (1, 256, 28, 28), 3, 1, 1)
    strided = pooling("AveragePool", (1, 136, 28, 28), 3, 2, 1)
    long_means = pooling("AveragePool", (1, 64, 56, 56), 7, 1, 3)
    maxima = pooling("MaxPool", (1, 192, 27, 27), 3, 1, 1)
    long_maxima = pooling("MaxPool", (1, 512, 13, 13), 13, 1, 6)
    return {
        "15a": _pooled("AveragePool3x3 256x28x28", means, "depthwise conv", is_convolution(kernel=(3, 3), channels=1)),
        "15b": _pooled("AveragePool3x3 stride 2 136x28x28", strided, "fold of strided views", is_fold_of_views),
        "15c": _pooled("AveragePool7x7 64x56x56", long_means, "rows, then columns", is_nested(2)),
        "15d": _pooled("MaxPool3x3 192x27x27", maxima, "rows, then columns", is_nested(2)),
        "15e": _pooled("MaxPool13x13 512x13x13", long_maxima, "rows, then columns, each by halves", is_nested(6)),
    }


def cases() -> dict[str, Case]:
    """All cases of the table, in its order."""
    from examples.combined_cases import combined_cases

    found = intra_cases() | fold_cases() | combined_cases()
    return dict(sorted(found.items(), key=lambda case: (int(case[0].rstrip("abcdefgh")), case[0])))


def run_case(number: str) -> Result:
    """Measure one case in this process."""
    return cases()[number].measure()


def table(results: dict[str, Result]) -> str:
    """The results as a Markdown table."""
    lines = [
        "| case | operator | wanted form | found | chain | states first / all | first s | all s | cost ms | best ms | best |",
        "|---|---|---|---|---|---:|---:|---:|---:|---:|---|",
    ]
    known = cases()
    for number, result in results.items():
        case = known[number]
        mark = "yes" if result.found else f"**no**: {result.note}"
        lines.append(
            f"| {number} | {case.name} | {case.wanted} | {mark} | {_chain(result.chain)} "
            f"| {result.states_first} / {result.states}{'*' if result.truncated else ''} "
            f"| {_seconds(result.first_seconds)} | {_seconds(result.seconds)} "
            f"| {result.cost_wanted:.3f} | {result.cost_best:.3f} | {_short(result.best)} |"
        )
    return "\n".join(lines) + "\n"


def as_json(results: dict[str, Result]) -> dict[str, Any]:
    """The results as plain data, with what each case is; what was not reached is null."""
    known = cases()
    return {
        number: {"operator": known[number].name, "wanted": known[number].wanted, **_finite(asdict(result))}
        for number, result in results.items()
    }


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {name: _finite(item) for name, item in value.items()}
        case tuple() | list():
            return [_finite(item) for item in value]
        case _:
            return None if value == inf else value


def _chain(rules: Sequence[str]) -> str:
    """The rules without the bookkeeping between them."""
    shown = [rule for rule in rules if rule not in ("merge", "tighten", "drop_units")]
    return ", ".join(shown)


def _seconds(pair: tuple[float, float]) -> str:
    return "" if pair[0] == inf else f"{pair[0]:.2f} ({pair[1]:.2f})"


def _short(label: str) -> str:
    return label.replace("batch_matmul", "bmm").replace(", left=", " ").replace(", right=", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. 1 where a wanted form was not found."""
    parser = argparse.ArgumentParser(prog="python -m examples.derivations", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="numbers; a number without a letter means all of it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there")
    options = parser.parse_args(arguments)
    wanted = [number for number in cases() if not options.cases or _is_chosen(number, options.cases)]
    if not wanted:
        parser.error(f"no such case; there are {', '.join(cases())}")
    results: dict[str, Result] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for number in wanted:
            results[number] = pool.submit(run_case, number).result()
            print(table({number: results[number]}).splitlines()[-1], file=sys.stderr, flush=True)
    if options.json:
        options.json.write_text(json.dumps(as_json(results), indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(table(results))
    print(table(results), end="")
    return 0 if all(result.found for result in results.values()) else 1


def _is_chosen(number: str, chosen: Sequence[str]) -> bool:
    return any(number == one or number.rstrip("abcdefgh") == one for one in chosen)


if __name__ == "__main__":
    sys.exit(main())
