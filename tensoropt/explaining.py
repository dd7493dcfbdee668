"""``inspect --why``: how a node was rewritten, step by step, what checked it, and why other ways were not taken."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensoropt.ir.expression import Scope, Tensor
from tensoropt.ir.parser import parse_type
from tensoropt.ir.printer import format_scope
from tensoropt.rewrite.derivation import Derivation
from tensoropt.rewrite.rule import Rule

_TIDYING = ("merge", "tighten", "drop_units")
"""Rules that only bring an expression to normal form; they are named beside the step that they follow."""
_NEUTRAL = re.compile(
    r"(?<=\()(batch|images)=1, |, (groups|batch|images)=1(?=[,)])"
    r"|, (strides|dilations)=\((1, )*1,?\)|, pads_(begin|end)=\((0, )*0,?\)"
)
"""Parameters that say nothing: one image, one group, strides and dilations of 1, no padding."""
_LISTED = 6
"""Candidates that were not taken, and reasons of refusals, that are shown to people; ``--json`` has all."""


@dataclass(frozen=True, slots=True)
class Trace:
    """What ``trace.json`` holds."""

    derivations: tuple[Mapping[str, Any], ...] = ()
    regions: tuple[Mapping[str, Any], ...] = ()
    searches: tuple[Mapping[str, Any], ...] = ()
    joins: tuple[Mapping[str, Any], ...] = ()

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Trace:
        """The trace in a file; artefacts of earlier versions have less of it."""
        return Trace(*(tuple(data.get(name, ())) for name in ("derivations", "regions", "searches", "joins")))

    def of(self, name: str) -> Trace:
        """What concerns a node or value; what was derived of several nodes together names them all."""
        derivations, regions, joins = (
            tuple(entry for entry in entries if name in (entry["node"], entry["value"], *entry.get("nodes", ())))
            for entries in (self.derivations, self.regions, self.joins)
        )
        searches = tuple(self.searches[place] for place in dict.fromkeys(region["search"] for region in regions))
        return Trace(derivations, regions, searches, joins)


def explain(name: str, trace: Trace, rules: Mapping[str, Rule]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Lines for people and the same as data; ``trace`` is that of the node. Chains are replayed with the given rules."""
    values = dict.fromkeys(entry["value"] for entry in (*trace.derivations, *trace.regions))
    lines: list[str] = []
    data: list[dict[str, Any]] = []
    for value in values:
        derivations = [entry for entry in trace.derivations if entry["value"] == value]
        region = next((entry for entry in trace.regions if entry["value"] == value), None)
        shown = _shown(derivations)
        lines += [f"{name}, which computes {value}", *_indented(_outcome(region, derivations))]
        if shown is not None:
            lines += ["", *_indented(_chain(shown, rules)), *_indented(_checked(shown))]
        others = [entry for entry in derivations if entry is not shown]
        if others:
            lines += ["", "  found and not taken", *_indented(_others(others), 4)]
        if region is not None and "search" in region:
            lines += ["", *_indented(_search(trace.searches[_place(trace, region)], region["why"]))]
        lines.append("")
        data += [{**entry, "states": _states(entry, rules)} for entry in derivations]
    for join in trace.joins:
        lines += [*_joined(name, join), ""]
    return tuple(lines[:-1]), {
        "node": name,
        "derivations": data,
        "regions": list(trace.regions),
        "searches": list(trace.searches),
        "joins": list(trace.joins),
    }


def _place(trace: Trace, region: Mapping[str, Any]) -> int:
    return list(dict.fromkeys(entry["search"] for entry in trace.regions)).index(region["search"])


def _shown(derivations: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The derivation that is shown step by step: the one that was kept, else the fastest that was measured."""
    kept = [entry for entry in derivations if entry["kept"]]
    measured = [entry for entry in derivations if entry["milliseconds"] is not None]
    return min(
        [*kept[:1], *measured], key=lambda entry: (not entry["kept"], entry["milliseconds"] or 0.0), default=None
    )


def _outcome(region: Mapping[str, Any] | None, derivations: Sequence[Mapping[str, Any]]) -> list[str]:
    kept = [entry for entry in derivations if entry["kept"]]
    if not kept:
        why = region["why"] if region is not None else "; ".join(entry["why"] for entry in derivations)
        return [f"runs as the model says: {brief(why.removesuffix('; it runs as the model says'))}"]
    lines = []
    for entry in kept:
        before, after = entry["original_milliseconds"], entry["milliseconds"]
        gain = f", {before / after:.2f} times faster" if before and after else ""
        lines += [f"rewritten as {brief(entry['pattern'])}", f"{entry['why']}{gain}{_estimate(entry)}"]
    return lines


def _joined(name: str, entry: Mapping[str, Any]) -> list[str]:
    """Whether attention is one launch, and why."""
    taken = "runs in one launch" if entry["kept"] else "stores its scores"
    return [
        f"{name}, of attention that computes {entry['value']}",
        f"  {taken}, where {entry['statements']} statements could be one: {entry['why']}",
    ]


def _estimate(entry: Mapping[str, Any]) -> str:
    return f" (estimated {entry['estimated_seconds'] * 1e3:.3f} ms)" if entry.get("estimated_seconds") else ""


def brief(pattern: str) -> str:
    """An operator without the parameters that say nothing."""
    return _NEUTRAL.sub("", pattern)


def _chain(entry: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str]:
    """The steps, each with where it was applied and the expression that it gave; the formula of a rule where it comes first."""
    states = _states(entry, rules)
    lines = ["how it was derived" if entry["kept"] else f"how {brief(entry['pattern'])} was derived"]
    if states is None:
        note = "(no expressions: the chain does not replay with the rules of this version)"
        return [*lines, *(f"  {step}" for step in entry["chain"]), note]
    steps = entry["derivation"]["steps"]
    lines += _indented(states[0].splitlines(), 5)
    number, place = 0, 0
    seen: set[str] = set()
    while place < len(steps):
        head = place
        while place + 1 < len(steps) and steps[place + 1]["rule"] in _TIDYING:
            place += 1
        tidied = ", ".join(dict.fromkeys(step["rule"] for step in steps[head + 1 : place + 1]))
        number += 1
        rule = steps[head]["rule"]
        lines.append(f"  {number}. {_step(steps[head], entry['chain'][head])}" + (f"; then {tidied}" if tidied else ""))
        if rule not in seen:
            lines += _indented(formula(rules[rule]), 5)
        seen.add(rule)
        place += 1
        lines += _indented(states[place].splitlines(), 7)
    return lines


def _step(step: Mapping[str, Any], text: str) -> str:
    """A step as text; where it was applied to the innermost of several scopes that is said in words."""
    where = " at " + ".".join(map(str, step["path"]))
    return text.removesuffix(where).removesuffix("()") + (", inside" if step["path"] else "")


def formula(rule: Rule) -> list[str]:
    """The first paragraph of a rule's docstring, without the marks of literals."""
    paragraph = (rule.__doc__ or "").strip().partition("\n\n")[0]
    return [line.strip().replace("``", "").removesuffix(".") for line in paragraph.splitlines()]


def _states(entry: Mapping[str, Any], rules: Mapping[str, Rule]) -> list[str] | None:
    """The texts of all expressions of the chain; None where there is no chain to replay, or it does not replay."""
    if not entry.get("derivation") or not entry.get("reads"):
        return None
    try:
        tensors = {name: Tensor(name, parse_type(text)) for name, text in entry["reads"].items()}
        states: list[Scope] = Derivation.from_json(entry["derivation"], tensors).states(rules)
    except Exception:  # a chain of another version: its sites may mean anything to the rules of this one
        return None
    return [format_scope(state) for state in states]


def _checked(entry: Mapping[str, Any]) -> list[str]:
    certificate = entry["certificate"]
    shapes = ", ".join(f"{name}[{', '.join(map(str, shape))}]" for name, shape in certificate["shrunk"].items())
    bound = certificate["error_bound"]
    chance = (
        "comparisons have no bound of error" if bound is None else f"a wrong one passes with probability < {bound:.0e}"
    )
    contents, elements = certificate.get("assignments", 1), certificate["shrunk_elements"]
    return [
        f"checked in {certificate['domain']}, on {contents} random contents; {chance}",
        f"  each of {certificate['steps']} steps and the whole chain in full: {elements} elements, of {shapes}",
        f"  the real sizes at {certificate['real_points']} points that meet every border and residue class",
    ]


def _others(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    ranked = sorted(entries, key=lambda entry: (entry["milliseconds"] is None, entry["milliseconds"] or 0.0))
    lines = [f"{brief(entry['pattern'])}: {entry['why']}{_estimate(entry)}" for entry in ranked[:_LISTED]]
    return [*lines, *([f"and {len(ranked) - _LISTED} more, which --json lists"] if len(ranked) > _LISTED else [])]


def _search(report: Mapping[str, Any], why: str) -> list[str]:
    """How the search went; ``why`` has been said already."""
    if report["failure"] is not None:
        return [f"search: {report['failure']}"]
    ends = {None: "all that there are", "states": "its limit", "time": "cut short by the time limit"}
    end = ends.get(report["truncated"], str(report["truncated"]))
    lines = [
        f"search: {report['visited']} states visited ({end}), {report['goals']} ways to use an operator, {report['seconds']:.2f} s"
    ]
    if report["nearest"] and report["nearest"] not in why:
        lines.append(f"nearest miss: {report['nearest']}")
    lines += [f"check failed: {why}" for why in dict.fromkeys(report["rejected"])]
    refused = [
        (count, name, why) for name, counts in report["rules"].items() for why, count in counts["refused"].items()
    ]
    refused.sort(key=lambda found: -found[0])
    if refused:
        lines += ["refused most often", *(f"  {name}, {count} times: {why}" for count, name, why in refused[:_LISTED])]
    return lines


def _indented(lines: Iterable[str], by: int = 2) -> list[str]:
    return [f"{' ' * by}{line}" if line else line for line in lines]
