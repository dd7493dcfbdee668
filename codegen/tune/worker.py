"""Costs by measuring, in a process of its own: a candidate that crashes, hangs or eats memory is lost, and nothing else is.

The parent sends alternatives, the worker builds each as a small program, runs it on seeded inputs, compares its outputs with those
of the first, and times all of them in alternation. Results are kept on disk by what was measured and where.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from codegen.targets.cpu import CpuTarget
from codegen.tune.store import TimingStore
from tensoropt.cost import Alternative, KernelCost
from tensoropt.ir.expression import Scope, Tensor, replace_sources
from tensoropt.ir.printer import format_scope
from tensoropt.ir.program import Compute, Statement

TIMEOUT_SECONDS = 60.0
"""For building and timing one set of alternatives; far more than any needs."""

MEMORY_BYTES = 8 << 30
"""Address space of the worker beyond what its libraries take."""


class MeasuredCost:
    """The cost protocol of ``tensoropt.cost`` by timing on this machine. A context manager: leaving it ends the worker."""

    def __init__(self, target: CpuTarget, timeout: float = TIMEOUT_SECONDS, store: TimingStore | None = None) -> None:
        self.target = target
        self.timeout = timeout
        self.restarts = 0
        self._store = store if store is not None else TimingStore.default()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def cost(self, kernel: Statement, constants: frozenset[str] = frozenset()) -> KernelCost:
        """See ``CostModel``."""
        used = frozenset(tensor.name for tensor in kernel.inputs if tensor.name in constants)
        return self.compare([Alternative((kernel,), kernel.outputs, used)])[0]

    def compare(self, alternatives: Sequence[Alternative]) -> list[KernelCost]:
        """See ``CostModel``. One that takes the worker down has failed; the others are measured again without it."""
        key = measurement_key(alternatives, self.target)
        known = self._store.get(key)
        if known is not None:
            return known
        costs: dict[int, KernelCost] = {}
        remaining = list(range(len(alternatives)))
        while remaining:
            answer = self._ask([alternatives[position] for position in remaining])
            if isinstance(answer, _Lost):
                culprit = remaining[min(answer.position, len(remaining) - 1)]
                costs[culprit] = KernelCost.failed(answer.reason)
                remaining.remove(culprit)
            else:
                costs |= dict(zip(remaining, answer, strict=True))
                remaining = []
        result = [costs[position] for position in range(len(alternatives))]
        self._store.put(key, result)
        return result

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _ask(self, alternatives: list[Alternative]) -> list[KernelCost] | _Lost:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        position = 0
        try:
            _send(process.stdin, (alternatives, self.target))
            while True:
                message = _receive(process.stdout, self.timeout)
                if isinstance(message, int):
                    position = message  # the worker says which one it is about to touch
                elif isinstance(message, list):
                    return message
        except TimeoutError:
            self._restart()
            return _Lost(position, f"it took longer than {self.timeout:.0f} s")
        except (EOFError, BrokenPipeError):
            status = process.wait()
            self._restart()
            return _Lost(position, f"its process ended with {_name(status)}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            threads = str(self.target.threads)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "codegen.tune.measure", str(MEMORY_BYTES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    "TVM_NUM_THREADS": threads,
                },
            )
        return self._process

    def _restart(self) -> None:
        self.close()
        self.restarts += 1


class _Lost:
    def __init__(self, position: int, reason: str) -> None:
        self.position, self.reason = position, reason


def measurement_key(alternatives: Sequence[Alternative], target: CpuTarget) -> str:
    """A digest of what is measured, with tensors named by their order, and of where."""
    from importlib.metadata import version

    digest = hashlib.sha256(f"{target.key} {version('apache-tvm')} {_source_digest()}".encode())
    for alternative in alternatives:
        names: dict[Tensor, Tensor] = {}
        for kernel in alternative.kernels:
            for tensor in (*kernel.inputs, *kernel.outputs):
                names.setdefault(tensor, Tensor(f"t{len(names)}", tensor.type))
            if isinstance(kernel, Compute):
                sources: dict[Tensor | Scope, Tensor | Scope] = dict(names)
                text = format_scope(replace_sources(kernel.expression, sources))
                types = [f"{names[tensor].name}:{tensor.type}" for tensor in (*kernel.inputs, *kernel.outputs)]
                digest.update(f"{text} {types}".encode())
            else:
                digest.update(kernel.node)
        constants = sorted(names[tensor].name for tensor in names if tensor.name in alternative.constants)
        digest.update(f"{constants}".encode())
    return digest.hexdigest()


_SOURCES: list[str] = []


def _source_digest() -> str:
    """A digest of the code generators' own source: another version of a schedule takes another time."""
    if not _SOURCES:
        digest = hashlib.sha256()
        for file in sorted(Path(__file__).resolve().parents[1].rglob("*.py")):
            digest.update(file.read_bytes())
        _SOURCES.append(digest.hexdigest())
    return _SOURCES[0]


def _send(stream: BinaryIO | Any, message: Any) -> None:
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def _receive(stream: BinaryIO | Any, timeout: float) -> Any:
    size = int.from_bytes(_read(stream, 8, timeout), "little")
    return pickle.loads(_read(stream, size, timeout))


def _read(stream: BinaryIO | Any, count: int, timeout: float) -> bytes:
    """Exactly ``count`` bytes; TimeoutError if a part takes longer than ``timeout`` seconds, EOFError at the end."""
    parts = b""
    while len(parts) < count:
        ready, _, _ = select.select([stream], [], [], timeout)
        if not ready:
            raise TimeoutError
        part = os.read(stream.fileno(), count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


def _name(status: int) -> str:
    try:
        return signal.Signals(-status).name if status < 0 else f"status {status}"
    except ValueError:
        return f"status {status}"
