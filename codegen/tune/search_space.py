"""The schedules that MetaSchedule chooses among, by its rules for each target."""

from __future__ import annotations

from typing import Any

from codegen.lower.schedulable import Schedulable
from codegen.lower.tensor_instructions import skip_all, tensor_core_groups
from codegen.targets.cpu import CpuTarget
from codegen.targets.parsing import Target
from tensoropt.ir.types import DataType


def search_space(kernel: Schedulable, target: Target) -> Any:
    """A generator of schedules of the kernel, with what is done to each at the end and how one becomes another.

    The rules that are called after CUDA name no language, and take what a device has from the target. Of f16 there are schedules
    for tensor cores too.
    """
    skip_all()
    from tvm.s_tir import meta_schedule

    kind = "llvm" if isinstance(target, CpuTarget) else "cuda"
    rules, last = list(meta_schedule.ScheduleRule.create(kind)), kind
    if target.kind == "cuda" and any(tensor.dtype is DataType.FLOAT16 for tensor in kernel.inputs):
        rules, last = [_on_tensor_cores(meta_schedule.schedule_rule), *rules], "cuda-tensorcore"
    return meta_schedule.space_generator.PostOrderApply(
        sch_rules=rules,
        postprocs=meta_schedule.Postproc.create(last),
        mutator_probs=meta_schedule.Mutator.create(kind),
    )


def _on_tensor_cores(rules: Any) -> Any:
    """MetaSchedule's own tiling for them, but in static shared memory, which is all that a launch asks for."""
    return rules.MultiLevelTilingTensorCore(
        intrin_groups=tensor_core_groups(),
        structure="SSSRRSRS",
        tile_binds=["blockIdx.y", "blockIdx.x", "threadIdx.y"],
        max_innermost_factor=4,
        vector_load_lens=[1, 2, 3, 4, 8],
        reuse_read=rules.ReuseType(req="must", levels=[4], scope="shared"),
        reuse_write=rules.ReuseType(req="must", levels=[2], scope="shared"),
    )
