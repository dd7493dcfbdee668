"""The gap-cover bound: which values are dropped between uses and recomputed before the next, so that every moment fits the budget.

The moments are first computations in their known order (`passes.plan.bounds.moments`); with all steps in the input order the bound
holds for that order, with a chain of the graph for any. Between consecutive uses of a step's values lies a segment of time. In it
the step is recomputed (a boolean that costs its duration), or its values are fetched (one that costs their transfer, and a transfer
more for the first of them), or what it wrote stays live throughout and counts at every moment inside. A fetch needs nothing. A
recomputation needs its inputs live somewhere in its segment. After the last use of an input that means that the input was retained
up to the beginning of the segment, or is had again, which its own needs bring about in turn.

It is a relaxation because recomputations themselves take memory nowhere, and because inputs before their last use are had for
granted. Any number of recomputations is allowed. Writing in place is counted as saved wherever it could be.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from passes.plan.bounds.moments import Moments
from passes.plan.bounds.program import FALSE, TRUE, BinaryProgram, Literal
from passes.plan.bounds.working_sets import working_set
from tensoropt.plan_types import Problem


@dataclass(slots=True)
class Segments:
    """A step's segments: segment k reaches from moment ``ends[k]`` to ``ends[k + 1]``; by ``ends[0]`` the step has run.

    ``recomputed[k]``, ``fetched[k]``: the step is run again between those moments, or what it wrote is fetched.
    ``present[value][k]``: live at moment ``ends[k]``.
    ``retained[value][k]``: live at every moment inside segment k.
    """

    ends: tuple[int, ...] = ()
    recomputed: list[Literal] = field(default_factory=list)
    fetched: list[Literal] = field(default_factory=list)
    present: dict[int, list[Literal]] = field(default_factory=dict)
    retained: dict[int, list[Literal]] = field(default_factory=dict)

    def overlapping(self, start: int, end: int) -> list[Literal]:
        """The recomputations and fetches in segments that share time with that from moment ``start`` to moment ``end``."""
        first = max(0, bisect_right(self.ends, start) - 1)
        shared = slice(first, max(first, bisect_left(self.ends, end)))
        return [*self.recomputed[shared], *self.fetched[shared]]

    def present_by(self, value: int, moment: int) -> Literal:
        """Live at the last end of a segment that is not after a moment."""
        return self.present[value][bisect_right(self.ends, moment) - 1]


@dataclass(slots=True)
class GapCover:
    """The binary program of the bound, and what its variables mean, by step."""

    problem: Problem
    budget: int
    moments: Moments
    nesting: int
    cuts: tuple[int, ...]
    program: BinaryProgram = field(default_factory=BinaryProgram)
    segments: list[Segments] = field(default_factory=list)


def gap_cover(
    problem: Problem, budget: int, moments: Moments, nesting: int = 2, cuts: tuple[int, ...] = ()
) -> GapCover:
    """The program whose least cost is the bound on what recomputation adds to the duration.

    ``nesting`` limits how deep the needs of recomputations of recomputations after a last use are followed; what lies deeper is
    had for granted. ``cuts`` are moments at which every segment around is cut in two, which brings in what stages cut there show
    (`passes.plan.bounds.cuts`). A few make the program much stronger; many weaken its linear relaxation.
    """
    cover = GapCover(problem, budget, moments, nesting, cuts)
    for step, (ends, _) in enumerate(_ends(cover)):
        cover.segments.append(_segments(cover, step, ends))
    for step in range(len(problem.steps)):
        _requirements(cover, step)
    _memory(cover)
    return cover


def birth(moments: Moments, step: int) -> int:
    """The first moment by which a step has run, its own included."""
    own = moments.at[step]
    return moments.before[step] if own is None else own


def _uses(cover: GapCover, value: int) -> set[int]:
    """The moments at which a value is live in any case."""
    at = (cover.moments.at[reader] for reader in cover.problem.readers[value])
    uses = {moment for moment in at if moment is not None}
    if cover.problem.values[value].kept:
        uses.add(cover.moments.count)
    own = cover.moments.at[cover.problem.writer[value]]
    return uses if own is None else uses | {own}


def _ends(cover: GapCover) -> list[tuple[tuple[int, ...], dict[int, int]]]:
    """By step: the ends of its segments, and how deep each is nested."""
    problem, moments = cover.problem, cover.moments
    found: list[tuple[tuple[int, ...], dict[int, int]]] = [((), {})] * len(problem.steps)
    for step in range(len(problem.steps) - 1, -1, -1):
        born = birth(moments, step)
        if born >= moments.count:
            continue
        depth: dict[int, int] = {born: 0}
        furthest, level = born, 0
        for value in problem.steps[step].writes:
            uses = _uses(cover, value)
            depth |= dict.fromkeys(uses, 0)
            last = max(uses, default=-1)
            for start, end, nested in _needs(cover, value, found):
                if start > last and start >= born and nested < cover.nesting:
                    depth[start] = min(depth.get(start, nested + 1), nested + 1)
                    furthest, level = max((furthest, level), (end, nested + 1))
        if furthest > max(depth):
            depth[furthest] = level
        for moment in cover.cuts:
            if born < moment < max(depth):
                depth.setdefault(moment, 0)
        found[step] = tuple(sorted(depth)), depth
    return found


def _needs(
    cover: GapCover, value: int, found: list[tuple[tuple[int, ...], dict[int, int]]]
) -> Iterator[tuple[int, int, int]]:
    """The times, from one moment to another, in which a value may be read but at moments, each with how deep it is nested."""
    moments = cover.moments
    for reader in cover.problem.readers[value]:
        if moments.at[reader] is None:
            yield moments.after[reader], moments.before[reader], -1
        ends, nested = found[reader]
        for start, end in pairwise(ends):
            if _since(cover, reader, start) < end:
                yield _since(cover, reader, start), end, nested[start]


def _since(cover: GapCover, step: int, start: int) -> int:
    """The moment after which a recomputation in the segment from moment ``start`` comes.

    Where all that the step wrote is live at that moment, one before the next moment changes memory at no moment, and is taken for
    none: what it wrote was retained. Not so if the step at the moment may write in place of it, which saves memory there.
    """
    problem = cover.problem
    if all(start in _uses(cover, value) for value in problem.steps[step].writes) and not any(
        source in problem.steps[step].writes for _, source in problem.steps[cover.moments.steps[start]].in_place
    ):
        return start + 1
    return start


def _segments(cover: GapCover, step: int, ends: tuple[int, ...]) -> Segments:
    one = cover.problem.steps[step]
    found = Segments(ends)
    if not ends:
        return found
    program = cover.program
    of_use = [_since(cover, step, start) < end for start, end in pairwise(ends)]
    for use in of_use:
        found.recomputed.append(program.boolean(one.duration) if use and one.recomputable else FALSE)
    found.fetched = _fetches(cover, step, of_use)
    program.counted += [literal for literal in (*found.recomputed, *found.fetched) if literal != FALSE]
    for value in one.writes:
        uses = _uses(cover, value)
        present = [TRUE if end in uses else program.boolean() for end in ends]
        retained = []
        for again, fetched, (before, after) in zip(found.recomputed, found.fetched, pairwise(present), strict=True):
            held = ~again if after == TRUE and fetched == FALSE else program.boolean()
            program.clause(~after, again, fetched, held)
            program.clause(~held, before)
            retained.append(held)
        found.present[value], found.retained[value] = present, retained
    return found


def _fetches(cover: GapCover, step: int, of_use: list[bool]) -> list[Literal]:
    """A fetch in each segment where it is of use, and the copy to the host that any of them needs."""
    transfers, program = cover.problem.transfers, cover.program
    if not transfers or not any(of_use):
        return [FALSE] * len(of_use)
    found = [program.boolean(transfers[step]) if use else FALSE for use in of_use]
    copied = program.boolean(transfers[step])
    for literal in found:
        program.clause(~literal, copied)
    return found


def _requirements(cover: GapCover, step: int) -> None:
    """What a step reads is live when it is first computed and whenever it is recomputed."""
    own = cover.segments[step]
    for value in dict.fromkeys(cover.problem.steps[step].reads):
        if cover.moments.at[step] is None:
            _had(cover, value, TRUE, cover.moments.after[step], cover.moments.before[step])
        for again, (start, end) in zip(own.recomputed, pairwise(own.ends), strict=True):
            _had(cover, value, again, _since(cover, step, start), end)


def _had(cover: GapCover, value: int, run: Literal, start: int, end: int) -> None:
    """Where ``run`` is true, a value is live at some time between two moments: at the first, or recomputed in between.

    Nothing is known before the writer has surely run, nor where it may run after its last segment.
    """
    source = cover.segments[cover.problem.writer[value]]
    if source.ends and source.ends[0] <= start and end <= source.ends[-1]:
        cover.program.clause(~run, source.present_by(value, start), *source.overlapping(start, end))


def _memory(cover: GapCover) -> None:
    """At every moment the step there and what is live beside it fit the budget."""
    problem, moments = cover.problem, cover.moments
    terms: list[list[tuple[int, Literal]]] = [[] for _ in range(moments.count + 1)]
    for step, found in enumerate(cover.segments):
        for value in problem.steps[step].writes:
            size = problem.values[value].bytes
            if not size or not found.ends:
                continue
            for end, literal in zip(found.ends, found.present[value], strict=True):
                if end < moments.count and value not in _touched(problem, moments.steps[end]):
                    terms[end].append((size, literal))
            for (start, end), literal in zip(pairwise(found.ends), found.retained[value], strict=True):
                for moment in range(start + 1, end):
                    terms[moment].append((size, literal))
    for moment, step in enumerate(moments.steps):
        saved = _saved(cover, step)
        cover.program.at_most([*terms[moment], *saved], cover.budget - working_set(problem, step))


def _touched(problem: Problem, step: int) -> tuple[int, ...]:
    return (*problem.steps[step].reads, *problem.steps[step].writes)


def _saved(cover: GapCover, step: int) -> list[tuple[int, Literal]]:
    """Terms for the bytes that writing in place may save at a step's moment: at most one pair, whose input is not retained."""
    problem, moment = cover.problem, cover.moments.at[step]
    assert moment is not None
    saved = []
    for result, value in problem.steps[step].in_place:
        found = cover.segments[problem.writer[value]]
        following = bisect_left(found.ends, moment)
        retained = found.retained[value]
        literal = cover.program.boolean()
        if following < len(retained):
            cover.program.clause(~literal, ~retained[following])
        saved.append((-problem.values[result].bytes, literal))
    cover.program.at_most([(1, literal) for _, literal in saved], 1)
    return saved
