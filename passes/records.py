"""What ``optimize --json``, ``trace.json`` and ``inspect --why`` say of a region: everything found, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from passes.derive.candidate import Candidate, PassedOver, SearchReport
from tensoropt.cost import KernelCost
from tensoropt.ir.program import Compute


def candidate_record(
    core: Compute, candidate: Candidate, cost: KernelCost | None, original: KernelCost | None, kept: bool, why: str
) -> dict[str, Any]:
    """A candidate; ``cost`` is None where it was not measured."""
    return {
        **place(core),
        **candidate.as_json(),
        "milliseconds": milliseconds(cost),
        "original_milliseconds": milliseconds(original),
        "cost_source": cost.source if cost is not None else "estimated",
        "cost_terms": {} if cost is None else dict(cost.terms),
        "kept": kept,
        "why": why,
    }


def passed_over_record(core: Compute, draft: PassedOver) -> dict[str, Any]:
    """What the search found and neither checked nor measured, or what failed the check."""
    told = draft.why.startswith(("not ", "the check "))
    return {
        **place(core),
        "derivation": None,
        "domain": None,
        "certificate": None,
        **draft.as_json(),
        "why": draft.why if told else f"not checked: {draft.why}",
        "milliseconds": None,
        "original_milliseconds": None,
        "cost_source": "estimated",
        "kept": False,
    }


def region_record(
    core: Compute, kept: Candidate | None, original: KernelCost | None, why: str, search: int
) -> dict[str, Any]:
    """The outcome for a region; ``search`` is the position of its search among the searches."""
    return {
        **place(core),
        "kept": kept.label if kept is not None else None,
        "original_milliseconds": milliseconds(original),
        "why": why,
        "search": search,
    }


def nothing_found(report: SearchReport) -> str:
    """Why a region has no candidate."""
    if report.failure is not None:
        return f"no derivation: {report.failure}; it runs as the model says"
    if report.truncated == "time":
        return "no derivation was found within the time limit; it runs as the model says"
    if report.rejected:
        return f"no derivation passed its check ({report.rejected[0]}); it runs as the model says"
    if report.passed_over:
        return "what was found is estimated too dear; it runs as the model says"
    missing = f": {report.nearest}" if report.nearest else ""
    return f"no derivation was found{missing}; it runs as the model says"


def reason(cost: KernelCost, original: KernelCost, chosen: bool, other: bool) -> str:
    """Why a candidate that was measured was kept or not; ``other`` says that another one was."""
    if cost.source == "failed":
        return f"could not be measured: {cost.reason}"
    gain = against(cost, original)
    if chosen:
        return f"fastest: {gain}"
    return f"another candidate is faster: {gain}" if other else f"not faster than the model as written: {gain}"


def join_record(chain: Sequence[Compute], stored: KernelCost, joined: KernelCost, kept: bool) -> dict[str, Any]:
    """What became of statements that one launch could compute: what they cost in it, and where what lies between is stored."""
    return {
        **place(chain[-1]),
        "nodes": list(dict.fromkeys(name for member in chain for name in member.origin)),
        "statements": len(chain),
        "milliseconds": milliseconds(joined),
        "original_milliseconds": milliseconds(stored),
        "cost_source": joined.source,
        "cost_terms": dict(joined.terms),
        "kept": kept,
        "why": against(joined, stored, "with the scores stored"),
    }


def against(cost: KernelCost, original: KernelCost, otherwise: str = "as written") -> str:
    """Two costs beside one another, and what bounds them where they were predicted; ``otherwise`` says what the second is."""
    found = f"{cost.seconds * 1e3:.3f} ms against {original.seconds * 1e3:.3f} ms {otherwise}"
    return f"{found} (predicted: {cost.reason}, against {original.reason})" if cost.reason else found


def place(core: Compute) -> dict[str, Any]:
    """The node and the value that a record is about."""
    return {"node": core.origin[0] if core.origin else core.output.name, "value": core.output.name}


def milliseconds(cost: KernelCost | None) -> float | None:
    """None where nothing was measured, or nothing could be."""
    return None if cost is None or cost.source == "failed" else cost.seconds * 1e3
