"""What derivation gains on the example models: `python -m examples.ablation [NAME ...] [--json FILE] [--resume]`.

Every model is optimized twice, with derivations and with all rules excluded (the same normalisation, fusion, schedules and check),
and both are called in alternating blocks, with the first a second time as a control: 1.00 ± 0.03 on a quiet machine. The table
says which derivations were kept, by the operator that they lead to and the families of rules that they use, and what each
gained on its own region when it was chosen. With `--families` every model is also compiled without each family of rules that fired
in it, so that what the family gained is measured on the whole model, with whatever the search finds instead.

A process a model; with `--json` the file is written after each of them, and `--resume` goes on where an interrupted run stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tensoropt
from examples.comparison import isolated
from examples.models import BUILDERS, MODELS
from examples.models.weights import Array
from examples.runs import save
from passes.derive.rules import RULES_BY_NAME
from tensoropt.machine import describe, whole_cores
from tensoropt.peers.peer import Run
from tensoropt.rewrite.rule import Rule
from tensoropt.timing import Series, alternate

_NORMAL_FORM = {"boundary", "staging"}
"""Families that nearly every chain uses (merge, tighten, drop_units, stage), which are named only where there is no other."""


@dataclass(frozen=True, slots=True)
class Fired:
    """Derivations of one kind that were kept in a model."""

    operator: str
    """What they lead to: a library operator, or generated kernels."""
    families: tuple[str, ...]
    """The families of rules in their chains."""
    nodes: tuple[str, ...]
    gains: tuple[float, ...]
    """How many times faster each made its region, as measured when it was chosen."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """One model with and without derivations: milliseconds a call, medians over the blocks."""

    name: str
    derived: Series
    written: Series
    again: Series
    """With derivations a second time, in turn with the others."""
    error: float
    """Largest difference of the outputs, as a share of the largest value."""
    cores: float
    """Whole cores that the machine gave, the mean of before and after; see `tensoropt.machine`."""
    found: int
    """Derivations that were found, kept or not."""
    sought: int
    """Statements that derivations were sought for."""
    fired: tuple[Fired, ...]

    @property
    def gain(self) -> float:
        """How many times faster the model is with derivations."""
        return self.written.median / self.derived.median

    @property
    def control(self) -> float:
        """The same compiled model through itself."""
        return self.derived.median / self.again.median


def ablate(name: str, threads: int, blocks: int) -> Ablation:
    """Compile a model in both ways and time both."""
    model = BUILDERS[name](1)
    feeds = random_feeds(model)
    optimized = optimize(model, threads)
    derived, written = loaded(optimized, threads), loaded(optimize(model, threads, ["all"]), threads)
    error = difference(derived(feeds), written(feeds))
    functions = {"derived": lambda: derived(feeds), "written": lambda: written(feeds), "again": lambda: derived(feeds)}
    before = whole_cores(threads)
    series = alternate(functions, blocks)
    return Ablation(
        name,
        **series,
        error=error,
        cores=(before + whole_cores(threads)) / 2,
        found=len(optimized.derivations),
        sought=len(optimized.regions),
        fired=fired(optimized.derivations),
    )


def ablate_families(name: str, threads: int, blocks: int) -> dict[str, float]:
    """How many times faster the model is with each family of rules that fires in it than without that family."""
    model = BUILDERS[name](1)
    feeds = random_feeds(model)
    optimized = optimize(model, threads)
    families_of_model = dict.fromkeys(family for kind in fired(optimized.derivations) for family in kind.families)
    runs = {"": loaded(optimized, threads)}
    for family in families_of_model:
        excluded = [name for name, rule in RULES_BY_NAME.items() if family_of(rule) == family]
        runs[family] = loaded(optimize(model, threads, excluded), threads)
    series = alternate({family: lambda run=run: run(feeds) for family, run in runs.items()}, blocks)  # type: ignore[misc]
    return {family: series[family].median / series[""].median for family in families_of_model}


def optimize(model: onnx.ModelProto, threads: int, excluded: Iterable[str] = ()) -> tensoropt.CompiledModel:
    """Optimize and check the model without the excluded rules; without all, it stays in the algebra that it is written in."""
    return tensoropt.optimize(model, tune="off", threads=threads, exclude_rules=excluded)


def loaded(optimized: tensoropt.CompiledModel, threads: int) -> Run:
    """Save the model, load it as a user would, and return its `run`."""
    with tempfile.TemporaryDirectory(prefix="tensoropt-benchmark-") as folder:
        # The weights stay mapped and the library stays open when their files are gone.
        run: Run = tensoropt.load(optimized.save(Path(folder) / "artefact"), threads=threads).run
    return run


def random_feeds(model: onnx.ModelProto) -> dict[str, Array]:
    """Standard normal inputs from seed 0."""
    random = np.random.RandomState(0)
    return {
        value.name: random.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in model.graph.input
    }


def difference(results: Mapping[str, Array], references: Mapping[str, Array]) -> float:
    """The largest difference of any output, as a share of that output's largest value."""
    return max(float(np.abs(results[name] - value).max() / np.abs(value).max()) for name, value in references.items())


def fired(derivations: Iterable[Mapping[str, Any]]) -> tuple[Fired, ...]:
    """The derivations that were kept, those of one kind together, the most frequent first."""
    kinds: dict[tuple[str, tuple[str, ...]], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in derivations:
        if entry["kept"]:
            kinds[entry["pattern"].partition("(")[0], families(entry)].append(entry)
    made = [
        Fired(
            operator,
            used,
            tuple(entry["node"] for entry in entries),
            tuple(
                entry["original_milliseconds"] / entry["milliseconds"]
                for entry in entries
                if entry["milliseconds"] and entry["original_milliseconds"]
            ),
        )
        for (operator, used), entries in kinds.items()
    ]
    return tuple(sorted(made, key=lambda kind: (-len(kind.nodes), kind.operator, kind.families)))


def families(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The families of rules, which are the files that they stand in, that a chain uses."""
    rules = dict.fromkeys(step["rule"] for step in entry["derivation"]["steps"])
    found = dict.fromkeys(family_of(RULES_BY_NAME[rule]) for rule in rules if not rule.startswith("match_"))
    special = tuple(sorted(family for family in found if family not in _NORMAL_FORM))
    return special or tuple(sorted(found))


def family_of(rule: Rule) -> str:
    """The name of the file that a rule stands in."""
    return type(rule).__module__.rpartition(".")[2]


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The ablations, as `as_json` gives them, as a Markdown table."""
    lines = [
        "| model | derived ms | as written ms | gain | control | cores | difference | sought | found | kept | what fired |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, row in rows.items():
        if "failed" in row:
            lines.append(f"| {name} | failed: {row['failed']} | | | | | | | | | |")
            continue
        kept = sum(len(kind["nodes"]) for kind in row["fired"])
        described = "; ".join(map(_described, row["fired"])) or "nothing"
        lines.append(
            f"| {name} | {row['derived_ms']:.3f} | {row['written_ms']:.3f} | {row['gain']:.2f} | {row['control']:.2f} "
            f"| {row['cores']:.1f} | {row['error']:.1e} | {row['sought']} | {row['found']} | {kept} | {described} |"
        )
    return "\n".join(lines)


def _described(kind: Mapping[str, Any]) -> str:
    by = ", ".join(kind["families"])
    gain = f", each {statistics.median(kind['gains']):.2f} times" if kind["gains"] else ""
    return f"{len(kind['nodes'])} × {kind['operator']}" + (f" by {by}" if by else "") + gain


def family_table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What each family gained in each model, as a Markdown table; nothing where no family was switched off."""
    measured = {name: row["families"] for name, row in rows.items() if row.get("families")}
    columns = sorted({family for gains in measured.values() for family in gains if family != "failed"})
    if not measured:
        return ""
    lines = [f"| model | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, gains in measured.items():
        if "failed" in gains:
            lines.append(f"| {name} | failed: {gains['failed']} {'|' * len(columns)}")
            continue
        cells = [f"{gains[family]:.2f}" if family in gains else "" for family in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The gains over the models of `MODELS`; other formulations do not count."""
    gains = {name: row["gain"] for name, row in rows.items() if name in MODELS and "failed" not in row}
    if not gains:
        return "No model was timed."
    best = max(gains, key=lambda name: gains[name])
    least = min(gains, key=lambda name: gains[name])
    return (
        f"Over {len(gains)} models: median gain {statistics.median(gains.values()):.2f}, largest {gains[best]:.2f} ({best}), "
        f"smallest {gains[least]:.2f} ({least})."
    )


def as_json(row: Ablation | str) -> dict[str, Any]:
    """Plain data of a row, or of what went wrong."""
    if isinstance(row, str):
        return {"failed": row}
    medians = {"derived_ms": row.derived.median, "written_ms": row.written.median}
    return {**asdict(row), **medians, "gain": row.gain, "control": row.control}


def main(arguments: Sequence[str] | None = None) -> int:
    """Time the models, print the table, and return 1 if a model failed."""
    parser = argparse.ArgumentParser(prog="python -m examples.ablation", description="Time what derivation gains.")
    parser.add_argument(
        "names", nargs="*", choices=[*BUILDERS, []], metavar="NAME", help="models; the seventeen where none is given"
    )
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="threads (default 2)")
    parser.add_argument("--blocks", type=int, default=7, metavar="N", help="timed blocks of each series (default 7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write FILE, after each model")
    parser.add_argument("--families", action="store_true", help="also switch off each family of rules that fired")
    parser.add_argument("--resume", action="store_true", help="keep what FILE holds already, failures apart")
    options = parser.parse_args(arguments)
    if options.resume and options.json is None:
        parser.error("--resume needs --json")
    command = " ".join(["python -m examples.ablation", *(sys.argv[1:] if arguments is None else arguments)])
    rows: dict[str, dict[str, Any]] = {}
    if options.resume and options.json.exists():
        before = json.loads(options.json.read_text())["models"]
        rows = {name: row for name, row in before.items() if "failed" not in row}
    names: list[str] = options.names or list(MODELS)
    described = describe()
    print("; ".join(f"{key} {value}" for key, value in described.items()), f"\n    {command}\n", sep="\n", flush=True)
    for place, name in enumerate(names, start=1):
        if name not in rows:
            rows[name] = as_json(isolated(ablate, name, options.threads, options.blocks))
            save(options.json, {"machine": described, "command": command, "models": rows})
        if options.families and "failed" not in rows[name] and "failed" in rows[name].get("families", {"failed": ""}):
            gains = isolated(ablate_families, name, options.threads, options.blocks)
            rows[name]["families"] = {"failed": gains} if isinstance(gains, str) else gains
            save(options.json, {"machine": described, "command": command, "models": rows})
        print(f"{place} of {len(names)}, {name}: {_brief(rows[name])}", file=sys.stderr, flush=True)
    chosen = {name: rows[name] for name in names}
    print(table(chosen), summary(chosen), *filter(None, [family_table(chosen)]), sep="\n\n", flush=True)
    return int(any("failed" in row for row in chosen.values()))


def _brief(row: Mapping[str, Any]) -> str:
    if "failed" in row:
        return f"failed: {row['failed']}"
    kept = sum(len(kind["nodes"]) for kind in row["fired"])
    return f"gain {row['gain']:.2f}, control {row['control']:.2f}, cores {row['cores']:.1f}, {kept} kept"


if __name__ == "__main__":
    sys.exit(main())
