"""``tensoropt tune``: the kernels of a model or an artefact measured, and the fastest kept."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from tensoropt.cli.options import Db, Json, Libraries, Shape, Tf32, Threads, TimeLimit, parse_shapes
from tensoropt.cli.output import print_json
from tensoropt.cli.progress import progress_display, tell_of_interrupt


def tune(
    path: Annotated[str, typer.Argument(metavar="DIR|MODEL.onnx", help="An artefact folder or a model.")],
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="What to tune for; see `tensoropt targets`. By default cpu, or what --rpc leads to."
        ),
    ] = None,
    tf32: Tf32 = False,
    rpc: Annotated[
        str | None,
        typer.Option("--rpc", metavar="HOST:PORT", help="TVM's tracker, whose devices under --key measure."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="NAME", help="The key under which the devices' servers are registered."),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", min=1, help="Variants of a kernel that are measured at the most."),
    ] = None,
    time_limit: TimeLimit = None,
    db: Db = None,
    threads: Threads = None,
    shape: Shape = None,
    libraries: Libraries = None,
    as_json: Json = False,
) -> None:
    """Tune every kernel; a folder is replaced by its faster self, and the next `optimize` uses what was measured."""
    from tensoropt import api

    with progress_display() as progress:
        found = api.tune(
            path,
            target,
            tf32=tf32,
            rpc=rpc,
            key=key,
            trials=trials,
            time_limit=time_limit,
            db=db,
            threads=threads,
            shapes=parse_shapes(shape),
            libraries=libraries,
            progress=progress,
            on_interrupt=tell_of_interrupt,
        )
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    print(f"{'share':>6} {'default ms':>11} {'tuned ms':>9}  kernel")
    for kernel in found["kernels"]:
        name = ", ".join(kernel["origin"][:3]) or kernel["kernel"]
        runs = f" ({len(kernel['outputs'])} times)" if len(kernel["outputs"]) > 1 else ""
        variant = f": {kernel['schedule']}" if kernel["variant"] else ""
        print(
            f"{kernel['share']:6.1%} {_milliseconds(kernel['default_ms']):>11} {_milliseconds(kernel['tuned_ms']):>9}  "
            f"{kernel['kernel']} from {name}{runs}{variant}"
        )
    _say(
        f"all kernels: {found['before_ms']:.3f} ms before, {found['after_ms']:.3f} ms after, in {found['seconds']:.1f} s"
    )
    reasons = {"time": "the time limit had passed", "interrupt": "it was interrupted"}
    if found["stopped"]:
        _say(f"not all kernels were measured: {reasons[found['stopped']]}; run it again to go on")
    if found["devices"]:
        devices = found["devices"]
        lost = f", {devices['lost']} lost" if devices["lost"] else ""
        _say(f"measured on {devices['used']} of {devices['device']} under the key {devices['key']}{lost}")
    failed = sum(len(kernel["failed"]) for kernel in found["kernels"])
    if failed:
        _say(f"{failed} variants failed and were not used; --json says why")
    if found["artefact"]:
        latency = found["artefact"]["latency_ms"]
        if found["artefact"]["replaced"]:
            _say(f"{found['path']}: replaced; {latency['before']:.3f} ms before, {latency['after']:.3f} ms after")
        else:
            _say(f"{found['path']}: left as it is, its schedules are the fastest that are known")
    _say(f"{found['database']['path']}: {found['database']['measurements']} measurements")
    for warning in found["warnings"]:
        _say(f"warning: {warning}")


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
