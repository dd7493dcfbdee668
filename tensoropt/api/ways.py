"""Ways toward a program that needs less memory: what its statements are to need, in the order in which that is tried.

The way that came to the fewest bytes is remembered beside the measurements, so that the smallest budget known to fit is met again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from tensoropt.api.stated import Keeping, Kernels
from tensoropt.ir.printer import format_program
from tensoropt.ir.program import Program

WORTH_REORDERING = 0.02
"""The share of a run that another order has to save: kernels that find their operands in the cache are faster by about as much."""

_SMALLEST = "smallest"


@dataclass(frozen=True, slots=True)
class Way:
    """Toward less memory: the program that is changed, and what its statements are to need.

    ``alone``: by themselves, at the most, and ``live``: with what is live besides, which may take a ``share`` of the time for each.
    ``written``: the statements of the program that are as the model says already.
    """

    program: Program
    alone: int
    live: int
    share: float
    keeping: Keeping
    written: tuple[str, ...] = ()


def ways(peak: int, budget: int, kernels: Kernels, keepings: Sequence[Keeping], known: Sequence[Way] = ()) -> list[Way]:
    """What is done one after the other where a budget cannot be met otherwise.

    What statements need by themselves, below which no plan gets, is lowered first, and then what is live besides: where that is
    cheap; then, at any price, what is ``known`` to fit, and the least, which says early whether there is a plan at
    all (of the program as it was written too); and then where it is less cheap. Goals are shares of the peak that do not depend
    on the budget.
    """
    shares = [peak * tenths // 10 for tenths in range(9, 2, -1)]
    goals = [goal for goal in shares if goal <= budget] or shares[-1:]
    pairs = dict.fromkeys([*((goal, goals[0]) for goal in goals), (goals[-1], goals[-1])])
    programs = [(kernels.tuned, ()), *([(kernels.as_written, kernels.differing)] if kernels.differing else [])]
    cheap, dearer = (
        [Way(kernels.tuned, alone, live, share, keeping) for alone, live in pairs for keeping in keepings]
        for share in (WORTH_REORDERING, 5 * WORTH_REORDERING)
    )
    least, *others = (
        [Way(program, goal, goal, inf, keeping, written) for program, written in programs for keeping in keepings]
        for goal in (goals[-1], *goals[:-1])
    )
    return [*cheap, *known, *least, *dearer, *(way for some in others for way in some)]


def remember(kernels: Kernels, way: Way, bytes: int) -> None:
    """Stores the way by which a program was found that needs no more than so many bytes, the fewest so far."""
    if bytes < _stored(kernels).get("bytes", inf):
        entry = {
            "bytes": bytes,
            "alone": way.alone,
            "live": way.live,
            "share": None if way.share == inf else way.share,
            "keeping": way.keeping.value,
            "as_written": bool(way.written),
        }
        kernels.records.write(_key(kernels), {_SMALLEST: entry})


def remembered(kernels: Kernels, budget: int) -> list[Way]:
    """The way that came to the fewest bytes, where these are within the budget."""
    match _stored(kernels):
        case {"bytes": int(bytes), "alone": int(alone), "live": int(live), "share": float() | None as share,
              "keeping": str(keeping), "as_written": bool(written)} if bytes <= budget:  # fmt: skip
            program, names = (kernels.as_written, kernels.differing) if written else (kernels.tuned, ())
            return [Way(program, alone, live, inf if share is None else share, Keeping(keeping), names)]
        case _:
            return []


def _stored(kernels: Kernels) -> dict[str, Any]:
    return kernels.records.read(_key(kernels)).get(_SMALLEST, {})


def _key(kernels: Kernels) -> str:
    """The program with the variants of its kernels, and what may be copied."""
    text = f"{format_program(kernels.tuned)}\n{sorted(kernels.tuning.variants)}\n{kernels.paging}"
    return f"less memory: {hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
