"""The process that proposes schedules: MetaSchedule's evolutionary search, one step a request. Started by ``metaschedule``.

Only proposing and learning happen here: TVM's own builder and runner would check no result, and start a process for each batch.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

from codegen.lower.schedulable import schedulable
from codegen.lower.scheduled import describe
from codegen.tune.metaschedule import Begin, Propose
from codegen.tune.serving import replying
from tensoropt.serving import serve

_UNUSED = "tvm.s_tir.tensor_intrin"
"""Matrix instructions of GPUs and integer dot products, which no rule below uses: TVM parses them for 20 seconds when imported."""
_POPULATION = 128
"""Schedules that one generation holds. TVM's 512 spend more time on predicting than on running, for few trials."""


class _Search:
    """MetaSchedule on one kernel."""

    def __init__(self, request: Begin) -> None:
        sys.modules.setdefault(_UNUSED, ModuleType(_UNUSED))
        from tvm.s_tir import meta_schedule

        self.tools = meta_schedule
        self.kernel = schedulable(request.kernel.expression)
        self.target = request.target.tvm()
        threads = request.target.threads
        self.context = meta_schedule.TuneContext(
            self.kernel.function,
            target=self.target,
            space_generator=meta_schedule.space_generator.PostOrderApply(
                sch_rules=meta_schedule.ScheduleRule.create("llvm"),
                postprocs=meta_schedule.Postproc.create("llvm"),
                mutator_probs=meta_schedule.Mutator.create("llvm"),
            ),
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
                return []
            case Propose() if self.search is not None:
                return self.search.propose(request.seconds)
            case _:
                raise ValueError(f"no such request: {request!r}")


if __name__ == "__main__":
    serve(sys.argv[1:], replying(_Explorer()))
