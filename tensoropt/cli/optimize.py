"""``tensoropt optimize``: an ONNX model in, a checked artefact out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tensoropt.cli.options import Db, Json, Libraries, Seed, Shape, Tf32, Threads, TimeLimit, Verbose, parse_shapes
from tensoropt.cli.output import print_json
from tensoropt.cli.progress import progress_display, tell_of_interrupt
from tensoropt.errors import UsageError

_SHOWN = 6
"""Rewrites of one kind that are listed one by one; ``--verbose`` lists all."""


def optimize(
    model: Annotated[str, typer.Argument(metavar="MODEL.onnx", help="The model.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="DIR", help="Where to write; beside the model by default.")
    ] = None,
    target: Annotated[str, typer.Option("--target", help="What to compile for; see `tensoropt targets`.")] = "cpu",
    memory_budget: Annotated[
        str | None,
        typer.Option(
            "--memory-budget", metavar="B", help="Of a run's arena: 512MiB, or a share of the peak such as 80%."
        ),
    ] = None,
    paging: Annotated[
        str | None,
        typer.Option("--paging", metavar="RATE", help="Also copy values to the host and back: 25GB/s, or `target`."),
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(
            "--training", metavar="LOSS", help="Add the derivatives of this output by the weights as outputs."
        ),
    ] = None,
    tf32: Tf32 = False,
    tune: Annotated[str | None, typer.Option("--tune", help="off, fast (the default) or full.")] = None,
    shape: Shape = None,
    exclude_rule: Annotated[
        list[str] | None,
        typer.Option("--exclude-rule", metavar="NAME", help="Do not use a rule; `all` rewrites nothing."),
    ] = None,
    threads: Threads = None,
    time_limit: TimeLimit = None,
    db: Db = None,
    seed: Seed = 0,
    libraries: Libraries = None,
    no_check: Annotated[bool, typer.Option("--no-check", help="Do not compare with ONNX Runtime.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a folder that is not an artefact.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Rewrite a model by derivation, compile it, check it against ONNX Runtime, and write the artefact folder."""
    from tensoropt import api

    folder = Path(output) if output else Path(model).with_suffix("")
    if not folder.name or (not output and folder == Path(model) and folder.exists()):
        raise UsageError(f"{model}: the output folder cannot be named after it; give one with -o")
    api.require_replaceable(folder, force)
    started = time.monotonic()
    with progress_display() as progress:
        compiled = api.optimize(
            model,
            target,
            memory_budget=memory_budget,
            paging=paging,
            training=training,
            tf32=tf32,
            tune=tune,
            shapes=parse_shapes(shape),
            exclude_rules=exclude_rule or (),
            threads=threads,
            time_limit=time_limit,
            db=db,
            seed=seed,
            check=not no_check,
            libraries=libraries or "auto",
            progress=progress,
            on_interrupt=tell_of_interrupt,
        )
        compiled.save(folder, force=force)
    report = {"artefact": str(folder), "total_seconds": time.monotonic() - started, **compiled.report()}
    if as_json:
        print_json(report)
    else:
        _show(report, verbose)


def _show(report: dict[str, Any], verbose: bool) -> None:
    """The outcome for people, on standard error."""
    latency, check, peak = report["latency_ms"], report["check"], report["peak_bytes"]
    _say(f"{report['artefact']}: written in {report['total_seconds']:.1f} s")
    if latency["after"] is None:
        _say("  latency   not measured: the target is not here")
    else:
        _say(f"  latency   {latency['after']:.3f} ms, {latency['before']:.3f} ms without rewriting")
    _say(f"  memory    {peak['arena'] / 2**20:.2f} MiB arena, {peak['after'] / 2**20:.2f} MiB live at the peak")
    if report["memory"]:
        plan = report["memory"]
        _say(
            f"  plan      {plan['status']}: {plan['recomputed']} recomputations, {plan['duration_increase_percent']:.3f} % longer; "
            f"the budget is {plan['budget_bytes'] / 2**20:.2f} MiB"
        )
        changes = {"chains in slabs": "in_slabs", "kernels with less scratch memory": "leaner_kernels"}
        changes |= {"convolutions without products at points": "as_written"}
        if made := [f"{len(plan[key])} {what}" for what, key in changes.items() if plan[key]]:
            _say(f"            {', '.join(made)}")
    if check["ok"] is None:
        _say(f"  check     none: {check['reason']}")
    else:
        _say(
            f"  check     agrees with ONNX Runtime: relative error {check['max_rel_error']:.2g} end to end, "
            f"{check['statements_checked']} statements within {check['max_share_of_bound']:.0%} of their bounds"
        )
    _say(f"  rewrites  {len(report['rewrites'])} kept of {len(report['derivations'])} found")
    for line in _rewrites(report["rewrites"], len(report["rewrites"]) if verbose else _SHOWN):
        _say(f"    {line}")
    tuned = report["tuning"]["kernels"]
    if tuned:
        faster = sum(bool(kernel["variant"]) for kernel in tuned)
        ends = {"time": ", as far as there was time", "interrupt": ", until it was interrupted"}
        early = ends.get(report["tuning"]["stopped"], "")
        _say(f"  tuning    {faster} of {len(tuned)} kernels got a faster schedule{early}")
    for warning in (*report["warnings"], *check["warnings"]):
        _say(f"  warning   {warning}")
    if verbose:
        for stage, seconds in report["seconds"].items():
            _say(f"  {stage:<20} {seconds:.2f} s")


def _rewrites(rewrites: list[dict[str, Any]], most: int) -> list[str]:
    """Each rewrite where there are few of its kind, else how many there are and how much faster they made their regions."""
    from tensoropt.explaining import brief

    kinds: dict[str, list[dict[str, Any]]] = {}
    for rewrite in rewrites:
        kinds.setdefault(rewrite["pattern"].partition("(")[0], []).append(rewrite)
    lines = []
    for kind, found in kinds.items():
        gains = sorted(rewrite["gain"] for rewrite in found if rewrite["gain"] is not None)
        if len(found) > most:
            gain = f", {gains[0]:.2f} to {gains[-1]:.2f} times faster{_basis(found)}" if gains else ""
            lines.append(f"{len(found)} times {kind}{gain}")
            continue
        for rewrite in found:
            gain = "" if rewrite["gain"] is None else f", {rewrite['gain']:.2f} times faster{_basis([rewrite])}"
            lines.append(f"{rewrite['node']}: {brief(rewrite['pattern'])}{gain}")
    return lines


def _basis(rewrites: list[dict[str, Any]]) -> str:
    """What is said of gains that nothing has measured."""
    return " as predicted" if any(rewrite["cost_source"] == "predicted" for rewrite in rewrites) else ""


def _say(text: str) -> None:
    print(text, file=sys.stderr)
