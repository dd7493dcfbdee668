"""Searches in processes of their own, so that several run at once and one that dies costs its statement and nothing else.

The processes are started as programs, never forked: the parent may hold TVM's threads. They know the search and nothing else.
Each has a thread here that hands it tasks and takes its replies as bytes; expressions are rebuilt in the caller's thread alone,
because interning is not made for several.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from queue import SimpleQueue
from signal import SIG_BLOCK, SIGCONT, SIGINT, SIGKILL, SIGSTOP, Signals, pthread_sigmask
from threading import Condition, Thread
from types import TracebackType

from passes.derive.candidate import SearchReport
from passes.derive.tasks.task import Found, Task
from tensoropt.isolated import Failed, Worker

TOTAL_BYTES = 900 << 20
"""What all searching processes may take of memory together."""
_LEAST_BYTES = 200 << 20
"""What ordinary searches need; no more processes are started than this can be shared out to."""
_LONGEST_SECONDS = 600.0
"""A process that is silent for longer is taken to hang."""
_GRACE_SECONDS = 20.0
"""What a search may take beyond its deadline, to check what it found."""
_TICK_SECONDS = 0.2
_MODULE = "passes.derive.tasks.worker"


class SearchPool:
    """Up to ``size`` searching processes, with ``total_bytes`` of memory together.

    A task whose process dies or runs out of its share is tried once more, alone and with all of the memory.
    """

    def __init__(
        self, size: int, deadline: float | None = None, total_bytes: int = TOTAL_BYTES, module: str = _MODULE
    ) -> None:
        self.size = max(1, min(size, total_bytes // _LEAST_BYTES))
        self.peak_bytes = 0
        """An upper bound of what the processes held at the same time."""
        self._deadline = deadline
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        share = total_bytes // self.size
        self._workers = [Worker(module, _LONGEST_SECONDS, share, environment) for _ in range(self.size)]
        self._alone = Worker(module, _LONGEST_SECONDS, total_bytes, environment)
        self._peaks: dict[Worker, int] = {}
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._results: dict[Task, Future[bytes]] = {}
        self._turns = Condition()
        self._running = 0
        self._closed = False
        self._threads: list[Thread] = []

    def __enter__(self) -> SearchPool:
        for worker in self._workers:
            thread = Thread(target=self._serve, args=(worker,), daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        for _ in self._threads:
            self._tasks.put(None)
        while any(thread.is_alive() for thread in self._threads):
            self._signal(SIGKILL)
            for thread in self._threads:
                thread.join(_TICK_SECONDS)

    def has(self, task: Task) -> bool:
        """Whether the task was submitted."""
        return task in self._results

    def submit(self, task: Task) -> None:
        """Queues a task; tasks are begun in the order in which they are submitted."""
        self._results[task] = Future()
        self._tasks.put(task)

    def result(self, task: Task) -> Found:
        """What was found; a report of the failure where nothing was. Waits for it."""
        future = self._results[task]
        while not wait([future], _TICK_SECONDS).done:
            continue  # a wait without an end may miss an interrupt that another thread has taken
        try:
            found = pickle.loads(future.result())
        except Failed as failure:
            return Found((), SearchReport(failure=str(failure)))
        assert isinstance(found, Found)
        return found

    def pause(self) -> None:
        """See ``tensoropt.quiet``."""
        self._signal(SIGSTOP)

    def resume(self) -> None:
        """See ``tensoropt.quiet``."""
        self._signal(SIGCONT)

    def _signal(self, number: Signals) -> None:
        for worker in (*self._workers, self._alone):
            worker.signal(number)

    def _serve(self, worker: Worker) -> None:
        """What a thread does: tasks, one after the other, until the pool closes. Interrupts are left to the main thread."""
        pthread_sigmask(SIG_BLOCK, {SIGINT})
        while (task := self._tasks.get()) is not None and not self._closed:
            try:
                reply = self._solved(worker, task)
            except Failed as failure:
                self._results[task].set_exception(failure)
            else:
                self._results[task].set_result(reply)
        worker.stop()

    def _solved(self, worker: Worker, task: Task) -> bytes:
        try:
            with self._turn(1):
                return self._ask(worker, task)
        except Failed:
            if self._closed:
                raise
        with self._turn(self.size):  # all other processes wait, and none holds memory
            for other in self._workers:
                other.stop()
            try:
                return self._ask(self._alone, task)
            finally:
                self._alone.stop()

    def _ask(self, worker: Worker, task: Task) -> bytes:
        left = share_of_time(self._deadline, -(-(self._tasks.qsize() + 1) // self.size))
        kind, reply = worker.ask((task, left), None if left is None else left + _GRACE_SECONDS)
        if kind != "found":
            worker.stop()
            raise Failed(str(reply))
        found, peak = reply
        self._peaks[worker] = max(self._peaks.get(worker, 0), peak)
        together = sum(self._peaks.get(other, 0) for other in self._workers)
        self.peak_bytes = max(together, self._peaks.get(self._alone, 0))
        assert isinstance(found, bytes)
        return found

    @contextmanager
    def _turn(self, share: int) -> Iterator[None]:
        """Waits until ``share`` of the processes are free."""
        with self._turns:
            self._turns.wait_for(lambda: self._running + share <= self.size or self._closed)
            self._running += share
        try:
            yield
        finally:
            with self._turns:
                self._running -= share
                self._turns.notify_all()


def share_of_time(deadline: float | None, rounds: int) -> float | None:
    """The seconds that a search may take so that each of several, one after the other, has its share; None without a limit."""
    return None if deadline is None else max(0.0, deadline - time.monotonic()) / max(1, rounds)
