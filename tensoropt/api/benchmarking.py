"""``bench``: ours against other engines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensoropt.api.optimizing import optimize
from tensoropt.api.requirements import (
    require_limits,
    require_model_for_tf32,
    require_target,
    require_timed_here,
)
from tensoropt.api.running import load
from tensoropt.check import random_feeds
from tensoropt.errors import UsageError
from tensoropt.pass_manager import Progress, silent


def bench(
    path: str | os.PathLike[str],
    *,
    against: Iterable[str] | None = None,
    target: str = "cpu",
    tf32: bool = False,
    threads: int | None = None,
    tune: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    seed: int = 0,
    blocks: int = 7,
    check: bool = True,
    peer_models: Sequence[str | os.PathLike[str]] = (),
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Time an artefact folder, or a model that is optimized first, against other engines on the same inputs, in turns.

    ``against`` names peers, all by default; one that is not installed or does not take the model is skipped with a sentence in
    ``skipped``, which ``warn`` gets too. Peers run the model's file; for a folder, which does not hold the original, its
    ``optimized.onnx`` with functions inlined. ``peer_models`` are files of the same function that peers run instead, each the
    fastest. Every series has ``blocks`` blocks, three where a call takes seconds; ``check`` is that of ``optimize``, and the
    outputs are compared with the peers' anyway. Peers run on the CPU, on so many ``threads``, whatever the ``target``; ``tf32`` is
    ours alone, of a model that is compiled for a GPU. Returns what ``bench --json`` prints (see ``docs/benchmarks.md``).
    CheckError where ours differs from the reference, ModelError, ArtefactError and UsageError as ``optimize`` and ``load``.
    """
    import tempfile

    from codegen.reading import operand_roundoff
    from codegen.targets.cpu import available_threads
    from tensoropt.comparison import Subject, compare
    from tensoropt.machine import describe
    from tensoropt.peers import peers_named

    require_model_for_tf32(Path(path), tf32)
    require_timed_here(target)
    require_limits(threads, seed, None)
    if blocks < 5:
        raise UsageError(f"at least 5 blocks make a median, not {blocks}")
    peers = peers_named([against] if isinstance(against, str) else against)
    threads = threads or available_threads()
    compiling: int | None = threads
    if require_target(target, tf32) is not None:
        compiling = None  # the threads are the peers'
        warn(f"ours runs on {target}, peers run on the CPU")
    given = Path(path)
    with tempfile.TemporaryDirectory(prefix="tensoropt-bench-") as temporary:
        seconds: dict[str, float | None] = {"optimize_seconds": None, "tune_seconds": None}
        if given.is_dir():
            folder, models = given, [_exported_model(given, Path(temporary))]
        else:
            started = time.monotonic()
            compiled = optimize(
                path,
                target,
                tf32=tf32,
                tune=tune,
                shapes=shapes,
                threads=compiling,
                seed=seed,
                check=check,
                progress=progress,
            )
            folder, models = compiled.save(Path(temporary) / "artefact"), [given]
            report = compiled.report()
            seconds = {"optimize_seconds": time.monotonic() - started, "tune_seconds": report["tune_seconds"]}
            del compiled
        loaded = load(folder, threads)
        feeds = random_feeds(loaded.inputs, seed)
        run_by_peers = list(map(Path, peer_models)) or models
        subject = Subject(folder, run_by_peers, loaded.inputs, loaded.outputs, feeds, operand_roundoff(folder))
        compared = compare(subject, peers, threads, blocks, progress, warn)
    return {
        "model": str(path),
        "peers_run": "optimized.onnx of the folder" if given.is_dir() else "the model",
        "machine": describe(),
        "threads": threads,
        "tune": None if given.is_dir() else tune or "fast",
        **seconds,
        **compared,
    }


def _exported_model(folder: Path, temporary: Path) -> Path:
    """The folder's ``optimized.onnx`` as a file without functions, which more engines take."""
    from codegen.reading import read_manifest
    from tensoropt.errors import ArtefactError
    from tensoropt.export.files import save_inlined

    read_manifest(folder)
    exported = folder / "optimized.onnx"
    if not exported.is_file():
        raise ArtefactError(f"{exported}: the file is missing, so peers have nothing to run; optimize the model again")
    return save_inlined(exported, temporary)
