"""The comparison of the papers on a GPU: prepared on any machine, timed on the one that has it.

    python -m examples.gpu.comparison --target cuda:h200 --prepare FOLDER        # here: needs nvcc, no GPU
    python -m examples.gpu.comparison --prepared FOLDER --json gpu.json           # there: loads and times

The seven models at batch 1 and 16, the four published operator cases, and products and convolutions as shares of the GPU's
measured peak, in f32 and f16 (products in bf16 too): ours, derived and as written, against PyTorch (eager, in a CUDA graph,
compiled, tuned with CUDA graphs), cuBLAS and cuDNN called directly, and plain TVM. ``--groups``, names, ``--types``, ``--batches``
and ``--against`` choose. Prepared on the machine with the GPU, where kernels are measured, ours may call cuBLASLt and cuDNN,
and takes part without them too.

A GPU may be lent for minutes, so both steps are cut to ``--seconds`` and go on where they stopped: what ``FOLDER`` or the
``--json`` file holds already is not done again, and a row that there was no time for says so. Every row is measured in a process
of its own. Without weights, which are made there from the same seeds, ``FOLDER`` is some MiB: code, tables, and TVM's runtime
libraries. The machine with the GPU needs this repository, torch, onnx, onnxruntime, cuda-bindings, and wheels of onnx-ir and
platformdirs; for TVM as a peer apache-tvm-ffi. ``--target opencl --groups small`` tries all of it out on a processor.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from codegen.targets.gpu import GpuTarget
from codegen.targets.parsing import parse_target
from examples.comparison import limited
from examples.gpu.cases import GROUPS, Case, chosen
from examples.gpu.check import listed, numbers
from examples.gpu.comparison_tables import latencies, shares, summary
from examples.gpu.machine import gpu
from examples.gpu.peers import PEERS, Setting
from examples.gpu.plain_tvm import RUNTIME, copy_runtime
from examples.gpu.prepared import REPORT, prepare, report_of
from examples.gpu.turns import measure
from examples.runs import Row, command_of, recorded
from tensoropt.errors import UsageError


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare or measure, print what came of it, and return 1 if a case failed, 2 where the options mean nothing."""
    options = _parsed(arguments)
    cases = chosen(options.groups, options.names, options.batches, options.types)
    ends = time.monotonic() + options.seconds
    try:
        if not cases:
            raise UsageError(f"nothing is called {' or '.join(options.names)} in {', '.join(options.groups)}")
        if options.prepare is not None:
            return prepare_all(cases, options, ends)
        return measure_all(cases, options, ends, command_of("examples.gpu.comparison", arguments))
    except UsageError as error:
        print(f"examples.gpu.comparison: {error}", file=sys.stderr)
        return 2


def prepare_all(cases: Sequence[Case], options: argparse.Namespace, ends: float) -> int:
    """Compiles the cases that the folder lacks, each in a process of its own."""
    if not isinstance(parse_target(options.target), GpuTarget):
        raise UsageError(f"--target {options.target} is no GPU; `python -m examples.benchmark` is for CPUs")
    tvm = "tvm" in options.against
    if tvm:
        copy_runtime(options.prepare / RUNTIME)
    failed = 0
    for place, case in enumerate(cases, start=1):
        folder = options.prepare / case.folder
        if _is_prepared(folder, options):
            said = "prepared before"
        else:
            seconds = min(options.limit, ends - time.monotonic())
            found = limited(seconds, prepare, case, options.target, options.tune, tvm, folder)
            failed += isinstance(found, str)
            said = f"failed: {found}" if isinstance(found, str) else _prepared(found)
        print(f"{place} of {len(cases)}, {case.label}: {said}", flush=True)
    total = sum(path.stat().st_size for path in options.prepare.rglob("*") if path.is_file())
    print(f"{options.prepare}: {total / (1 << 20):.1f} MiB")
    return int(failed > 0)


def _is_prepared(folder: Path, options: argparse.Namespace) -> bool:
    """Whether the folder holds the case as these options want it."""
    if not (folder / REPORT).is_file():
        return False
    report = report_of(folder)
    return bool((report["target"], report["tune"]) == (options.target, options.tune))


def measure_all(cases: Sequence[Case], options: argparse.Namespace, ends: float, command: str) -> int:
    """Times the cases that the ``--json`` file lacks, and prints all."""
    if not options.prepared.is_dir():
        raise UsageError(f"there is no folder {options.prepared}; run `--prepare {options.prepared}` first")
    setting = Setting(tuple(options.against), options.blocks, options.compile_limit)
    rows = recorded(
        {case.label: (case, options.prepared, setting) for case in cases},
        measure,
        _brief,
        options.json,
        options.json,
        command,
        limit=lambda: min(options.limit, ends - time.monotonic()),
        machine={**gpu(), **_torch_versions()},
    )
    print(*filter(None, (latencies(rows), shares(rows), summary(rows))), sep="\n\n", flush=True)
    return int(any("failed" in row for row in rows.values()))


def _prepared(report: Row) -> str:
    told = [f"{report['bytes'] / (1 << 20):.2f} MiB"]
    for variant, one in report["variants"].items():
        told.append(
            f"{variant} in {one['optimize_seconds']:.1f} s, {len(one['rewrites'])} rewrites, weights "
            f"{one['weights_bytes'] / (1 << 20):.1f} MiB of which {one['sent_bytes'] / (1 << 20):.2f} are sent"
        )
    return "; ".join([*told, *([report["tvm"]] if "tvm" in report else [])])


def _brief(row: Row) -> str:
    times = ", ".join(f"{name} {one['median_ms']:.4f}" for name, one in row["engines"].items())
    return f"{times} ms; control {row['control']['ratio']:.2f}"


def _torch_versions() -> dict[str, str | int]:
    """Of the libraries that torch brings along."""
    try:
        import torch
    except ImportError:
        return {}
    cudnn = torch.backends.cudnn.version() if torch.backends.cudnn.is_available() else None
    found: dict[str, str | int | None] = {"torch's CUDA": torch.version.cuda, "cuDNN": cudnn}
    return {name: version for name, version in found.items() if version is not None}


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.gpu.comparison", description="Compare with other engines on a GPU."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="models, or parts of operators' names; all by default")
    step = parser.add_mutually_exclusive_group(required=True)
    step.add_argument("--prepare", type=Path, metavar="FOLDER", help="compile, without the GPU")
    step.add_argument("--prepared", type=Path, metavar="FOLDER", help="load and time what was compiled")
    parser.add_argument("--target", default="cuda", help="what is compiled for: cuda (the default), cuda:h200, opencl")
    groups = partial(listed, known=(*GROUPS, "small"))
    parser.add_argument(
        "--groups", type=groups, default=list(GROUPS), metavar="LIST", help=f"default {','.join(GROUPS)}"
    )
    types = partial(listed, known=("f32", "f16", "bf16"))
    parser.add_argument(
        "--types", type=types, default=["f32", "f16", "bf16"], metavar="LIST", help="default f32,f16,bf16"
    )
    parser.add_argument("--batches", type=numbers, default=[1, 16], metavar="LIST", help="of models (default 1,16)")
    parser.add_argument("--tune", choices=("off", "fast", "full"), help="of ours, as of `tensoropt optimize`")
    against = partial(listed, known=PEERS)
    parser.add_argument(
        "--against", type=against, default=list(PEERS), metavar="LIST", help=f"default {','.join(PEERS)}"
    )
    parser.add_argument("--blocks", type=int, default=7, metavar="N", help="timed blocks of each series (default 7)")
    parser.add_argument("--limit", type=float, default=300.0, metavar="SECONDS", help="of a case (default 300)")
    parser.add_argument(
        "--compile-limit", type=float, default=90.0, metavar="SECONDS", help="of torch's tuning of a case (default 90)"
    )
    parser.add_argument("--seconds", type=float, default=570.0, metavar="SECONDS", help="of everything (default 570)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the rows, with every block, and go on from them"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
