"""Candidates found once for all statements that are equal up to the names of tensors: in this process, on disk, in workers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from passes.derive.candidate import Candidate, SearchLimits, SearchReport
from passes.derive.cost import estimated_seconds
from passes.derive.tasks import store
from passes.derive.tasks.pool import SearchPool, share_of_time
from passes.derive.tasks.renaming import named, named_report
from passes.derive.tasks.task import Found, Task
from tensoropt.ir.program import Compute
from tensoropt.quiet import Quiet
from tensoropt.rewrite.derivation import ReplayError

_SERIAL_SECONDS = 0.7
"""Searches run in this process for so long before workers are started, which takes them about a quarter of a second each."""


class DeriveCache:
    """Derives once for statements that are equal up to the names of tensors; lives as long as the process or shorter.

    ``workers`` is how many processes may search at the same time; what they find is the same, whoever finds it. ``deadline``
    is a value of ``time.monotonic``, when searches stop with what they have. Use as a context manager: it ends the workers.
    """

    def __init__(self, workers: int = 1, deadline: float | None = None, quiet: Quiet | None = None) -> None:
        self.workers, self.deadline, self.quiet = workers, deadline, quiet or Quiet()
        self.from_disk = 0
        """Statements whose candidates came from disk."""
        self._found: dict[Task, Found] = {}
        self._waiting: set[Task] = set()
        self._pool: SearchPool | None = None
        self._open = ExitStack()

    def __enter__(self) -> DeriveCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def searched(self) -> int:
        """How many statements were told apart."""
        return len(self._found)

    @property
    def processes(self) -> int:
        """How many workers there are."""
        return self._pool.size if self._pool is not None else 0

    @property
    def peak_bytes(self) -> int:
        """What the workers' processes held in memory at their peaks, together."""
        return self._pool.peak_bytes if self._pool is not None else 0

    def expect(
        self,
        computes: Iterable[Compute],
        program_constants: Collection[str] = (),
        limits: SearchLimits | None = None,
        excluded_rules: Collection[str] = (),
    ) -> None:
        """Announces what ``derive`` will be asked for, so that workers can begin with it where there is much to do."""
        asked = [
            Task.of(compute, program_constants, limits or SearchLimits(), excluded_rules)[0] for compute in computes
        ]
        tasks = [task for task in dict.fromkeys(asked) if task not in self._found and not self._load(task)]
        if self.deadline is not None:  # what matters most comes first
            tasks.sort(key=lambda task: -estimated_seconds((task.compute,), task.constants))
        self._waiting.update(tasks)
        if self.workers == 1:
            return  # each is searched when it is asked for
        started = time.monotonic()
        while tasks and (time.monotonic() - started < _SERIAL_SECONDS or len(tasks) == 1):
            self._solve(tasks.pop(0))
        if tasks:
            pool = SearchPool(min(self.workers, len(tasks)), self.deadline)
            self._pool = self._open.enter_context(pool)
            self._open.enter_context(self.quiet.pausing(pool))
            for task in tasks:
                pool.submit(task)

    def derive(
        self,
        compute: Compute,
        program_constants: Collection[str] = (),
        limits: SearchLimits | None = None,
        excluded_rules: Collection[str] = (),
    ) -> list[Candidate]:
        """As ``derive``."""
        task, order = Task.of(compute, program_constants, limits or SearchLimits(), excluded_rules)
        try:
            return [named(candidate, compute, order) for candidate in self._solve(task).candidates]
        except ReplayError:  # a rule that looks at the names of tensors: what it does holds for these names only
            known = frozenset(tensor.name for tensor in order if tensor.name in program_constants)
            return list(self._search(replace(task, compute=compute, constants=known)).candidates)

    def report(
        self,
        compute: Compute,
        program_constants: Collection[str] = (),
        limits: SearchLimits | None = None,
        excluded_rules: Collection[str] = (),
    ) -> SearchReport | None:
        """What the search for such a statement tried, refused and rejected; None where it has not been derived here."""
        task, order = Task.of(compute, program_constants, limits or SearchLimits(), excluded_rules)
        found = self._found.get(task)
        return named_report(found.report, order) if found is not None else None

    def _load(self, task: Task) -> bool:
        found = store.read(task)
        if found is None:
            return False
        self._found[task] = found
        self.from_disk += 1
        return True

    def _solve(self, task: Task) -> Found:
        if task not in self._found and not self._load(task):
            in_pool = self._pool is not None and self._pool.has(task)
            found = self._pool.result(task) if self._pool is not None and in_pool else self._search(task)
            self._found[task] = found
            store.write(task, found)
        self._waiting.discard(task)
        return self._found[task]

    def _search(self, task: Task) -> Found:
        """Searches here, within a share of the time that leaves the others that wait theirs."""
        seconds = share_of_time(self.deadline, -(-len(self._waiting) // self.workers))
        try:
            return task.solve(None if seconds is None else time.monotonic() + seconds)
        except MemoryError:
            return Found((), SearchReport(failure="the search ran out of memory"))
