"""The process that proposes schedules: MetaSchedule's evolutionary search, one step a request. Started by ``metaschedule``.

Only proposing and learning happen here: TVM's own builder and runner would check no result, and start a process for each batch.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from codegen.lower.device import dialect_of
from codegen.lower.dialect import PLAIN, written_in
from codegen.lower.schedulable import schedulable
from codegen.lower.scheduled import describe
from codegen.lower.tensor_instructions import skip_all
from codegen.targets.cpu import CpuTarget
from codegen.tune.metaschedule import Begin, Propose, processes
from codegen.tune.search_space import search_space
from codegen.tune.serving import replying
from tensoropt.serving import serve

_POPULATION = 128
"""Schedules that one generation holds. TVM's 512 spend more time on predicting than on running, for few trials."""


class _Search:
    """MetaSchedule on one kernel."""

    def __init__(self, request: Begin) -> None:
        skip_all()
        from tvm.s_tir import meta_schedule

        self.tools = meta_schedule
        target = request.target
        with written_in(PLAIN if isinstance(target, CpuTarget) else dialect_of(target)):
            self.kernel = schedulable(request.kernel.expression)
        self.target = target.tvm()
        threads = processes(target)
        self.context = meta_schedule.TuneContext(
            self.kernel.function,
            target=self.target,
            space_generator=search_space(self.kernel, target),
            search_strategy=meta_schedule.search_strategy.EvolutionarySearch(
                population_size=_POPULATION, init_min_unmeasured=request.batch
            ),
            num_threads=threads,
            rand_state=request.seed % ((1 << 31) - 2) + 1,
        )
        learned = importlib.util.find_spec("xgboost") is not None
        self.model = meta_schedule.CostModel.create("xgb" if learned else "random", num_tuning_cores=threads)
        self.database = meta_schedule.database.MemoryDatabase()
        self.workload = self.database.commit_workload(self.context.mod)
        self.candidates: list[Any] = []
        self.context.pre_tuning(
            request.trials, request.batch, self.context.generate_design_space(), self.database, self.model
        )

    def unsearched(self) -> list[str]:
        """The text of the schedule that TVM's own rules for devices (dlight) give at once: the floor of what is looked for."""
        if self.target.kind.name == "llvm":
            return []
        from tvm.s_tir.dlight import gpu

        for rule in (gpu.Matmul(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback()):
            try:
                schedule = rule.apply(self.kernel.function, self.target, False)
            except Exception:  # of a kernel that it did not foresee: the search goes on without it
                continue
            if schedule is not None:
                return [describe(self.kernel, schedule, "dlight")]
        return []

    def propose(self, seconds: tuple[float | None, ...]) -> list[str]:
        """Texts of schedules to try; none where the search is over."""
        if self.candidates:
            self._learn(seconds)
        self.candidates = list(self.context.generate_measure_candidates() or [])
        return [describe(self.kernel, candidate.sch) for candidate in self.candidates]

    def _learn(self, seconds: tuple[float | None, ...]) -> None:
        tools = self.tools
        results = []
        for candidate, taken in zip(self.candidates, seconds, strict=True):
            failure = "it failed" if taken is None else None
            results.append(tools.runner.RunnerResult(None if taken is None else [taken], failure))
            record = tools.database.TuningRecord(
                candidate.sch.trace, self.workload, [1e10 if taken is None else taken], self.target, candidate.args_info
            )
            self.database.commit_tuning_record(record)
        self.context.notify_runner_results(self.candidates, results)
        self.model.update(self.context, self.candidates, results)


class _Explorer:
    def __init__(self) -> None:
        self.search: _Search | None = None

    def __call__(self, request: Any) -> Any:
        match request:
            case Begin():
                self.search = _Search(request)
                return self.search.unsearched()
            case Propose() if self.search is not None:
                return self.search.propose(request.seconds)
            case _:
                raise ValueError(f"no such request: {request!r}")


if __name__ == "__main__":
    serve(sys.argv[1:], replying(_Explorer()))
