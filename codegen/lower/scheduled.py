"""A kernel from a schedule that was found by MetaSchedule: the trace of its steps, replayed on the kernel's blocks.

A trace holds steps that are to keep the meaning of what they are applied to, and no code of its own, so a text of any origin makes
the kernel's expression or nothing. Only TVM's mistakes remain: results are compared before a candidate's time counts.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from tvm import s_tir

from codegen.lower.blocks import WithWorkspace, lower_blocks, with_workspace
from codegen.lower.schedulable import Schedulable
from codegen.lower.tensor_instructions import require_named_in


class ScheduleMismatch(ValueError):
    """A schedule that was written for another kernel or by another TVM, or that is damaged."""


METASCHEDULE = "metaschedule"


def describe(kernel: Schedulable, schedule: Any, found_by: str = METASCHEDULE) -> str:
    """The text of a schedule (``tvm.s_tir.Schedule``) of the kernel, for ``{"metaschedule": text}``."""
    trace = schedule.trace.simplified(remove_postproc=False).as_json()
    origin = {} if found_by == METASCHEDULE else {"by": found_by}
    entry = {"tvm": version("apache-tvm"), "kernel": kernel.digest, **origin, "trace": trace}
    return json.dumps(entry, separators=(",", ":"), default=lambda literal: literal.value)


def replay(kernel: Schedulable, text: str) -> Any:
    """The kernel's function as the text schedules it. ScheduleMismatch where it does not fit."""
    try:
        entry = json.loads(text)
        written_by, digest, trace = entry["tvm"], entry["kernel"], entry["trace"]
    except (ValueError, TypeError, KeyError) as error:
        raise ScheduleMismatch("the text of the schedule is damaged") from error
    if written_by != version("apache-tvm"):
        raise ScheduleMismatch(f"the schedule is of TVM {written_by}, this is TVM {version('apache-tvm')}")
    if digest != kernel.digest:
        raise ScheduleMismatch("the schedule is of another kernel")
    schedule = s_tir.Schedule(kernel.function)
    require_named_in(text)
    try:
        s_tir.schedule.Trace.apply_json_to_schedule(trace, schedule)
    except Exception as error:  # TVM raises whatever its steps meet
        raise ScheduleMismatch(f"the schedule does not apply: {str(error).strip().splitlines()[-1]}") from error
    return schedule.mod["main"]


def found_by(text: str) -> str:
    """What made the schedule of a text that ``replay`` takes."""
    return str(json.loads(text).get("by", METASCHEDULE))


def lower_scheduled(function: Any) -> WithWorkspace:
    """A scheduled function as a private kernel over pointers: inputs, output, and scratch memory where it needs some."""
    (lowered,) = lower_blocks({"kernel": function}).values()
    return with_workspace(lowered)
