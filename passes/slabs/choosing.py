"""Which chain is cut, along which axis and in how many pieces: what needs the least time among what fits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf

from passes.slabs.cutting import Halo, Slabs
from passes.slabs.regions import volume, whole_box
from tensoropt.ir.expression import Tensor
from tensoropt.ir.program import Compute, Program

LONGEST = 10
"""Statements of a chain: each piece is a call of a kernel for each of them."""

PIECES = (2, 4, 8, 16, 32)
"""In how many pieces a chain is cut."""

AXES = 2
"""A chain is cut along one of so many first axes of its last value that have more than one element; the innermost is never cut,
whose neighbours a vector holds."""

CALL_SECONDS = 5e-6
"""What one call of a kernel more costs: threads start, and the ends of loops are not full."""

COPIED_BYTES_PER_SECOND = 1e10
"""How fast a value is written that was none before: a concatenation whose parts were written into it, a kept halo."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Slabs with about the most bytes of the arena that are in use while they run, and the seconds that they add.

    ``own``: the bytes of what they read, hold and write, without those of values that only live meanwhile.
    """

    slabs: Slabs
    own: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked for: so many bytes of its own at the most, and so many that are live in all.

    Bytes that are live over that count as ``penalty`` seconds each, for what a plan would take to save them; where that is not
    finite they count before seconds do, as those of its own always do, which no plan can save.
    """

    own: int
    live: int
    penalty: float = inf

    def rank(self, own: int, live: int, seconds: float) -> tuple[int, float]:
        """The least is what meets the goal best: what is above it counts in steps, for the last bytes may take the most time."""
        above, over = _steps(own, self.own), _steps(live, self.live)
        if self.penalty == inf:
            return max(above, over), seconds
        return above, seconds + max(0, live - self.live) * self.penalty

    def met(self, own: int, live: int) -> bool:
        """Whether nothing is above it."""
        return own <= self.own and live <= self.live


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a program in its order: bytes of the values live while a statement runs, its kernel's seconds and workspace.

    All by the name of the first value that the statement writes. ``callers``: values that take nothing of the arena; ``cut``:
    values of statements that are in no chain: pieces, and what is made up of others; ``owners``: the values that hold others.
    """

    others: Mapping[str, Mapping[str, int]]
    seconds: Mapping[str, float]
    workspaces: Mapping[str, int]
    callers: Collection[str]
    cut: Collection[str] = ()
    owners: Mapping[str, str] = field(default_factory=dict)


def _steps(bytes: int, most: int) -> int:
    """By how many tenths of the most that is asked for something is above it, begun ones counted."""
    return 0 if bytes <= most else -(-10 * (bytes - most) // max(1, most))


def cheapest(program: Program, name: str, known: Known, goal: Goal) -> Estimate | None:
    """The slabs around the statement that writes a value which meet a goal best, in the least time; None where none can be cut."""

    def rank(one: Estimate) -> tuple[int, float]:
        return goal.rank(one.own, one.bytes, one.seconds)

    found: Estimate | None = None
    for statements in chains(program, name, known.cut):
        last = statements[-1].output
        inner = [axis for axis, extent in enumerate(last.shape) if extent > 1]
        for axis in inner[:-1][:AXES] or inner:
            for count in (count for count in PIECES if count < int(last.shape[axis])):
                for halo in Halo:
                    slabs = Slabs(statements, axis, count, halo)
                    estimate = _estimated(slabs, known)
                    if estimate is not None and (found is None or rank(estimate) < rank(found)):
                        found = estimate
    return found


def chains(program: Program, name: str, cut: Collection[str] = ()) -> Iterator[tuple[Compute, ...]]:
    """The chains of two to ``LONGEST`` statements with that which writes a value.

    Each alone reads the one before, of its sources the largest for which that is so; values between are no outputs. Those that were
    ``cut`` are in none.
    """
    producers, readers = program.producers(), program.consumers()
    kept = set(program.outputs)
    statement = next((one for one in program.statements if one.outputs[0].name == name), None)
    if not isinstance(statement, Compute) or name in cut:
        return
    path = [statement]

    def between(tensor: Tensor) -> bool:
        return tensor not in kept and len(readers.get(tensor, ())) == 1

    while len(path) < 2 * LONGEST:
        sources = sorted(path[0].inputs, key=lambda tensor: -tensor.type.bytes)
        before = [producers[tensor] for tensor in sources if tensor in producers and between(tensor)]
        source = next((one for one in before if isinstance(one, Compute) and one.output.name not in cut), None)
        if source is None:
            break
        path.insert(0, source)
    here = path.index(statement)
    while between(path[-1].output):
        (reader,) = readers[path[-1].output]
        if not isinstance(reader, Compute) or reader.output.name in cut:
            break
        path.append(reader)
    for first in range(here + 1):
        for end in range(max(here + 1, first + 2), min(len(path), first + LONGEST) + 1):
            yield tuple(path[first:end])


def _estimated(slabs: Slabs, known: Known) -> Estimate | None:
    """The estimate of slabs; None where they save nothing, since pieces need all of what they read."""
    pieces = slabs.pieces()
    if len(pieces) < 2:  # tiles are as large as the axis
        return None
    looked = pieces if len(pieces) <= 4 else [pieces[0], pieces[1], pieces[len(pieces) // 2], pieces[-1]]
    names = [statement.output.name for statement in slabs.statements]
    boxes = [slabs.boxes(piece) for piece in looked]
    sizes = [
        max(volume(one[k][statement.expression]) for one in boxes) * statement.output.dtype.itemsize
        for k, statement in enumerate(slabs.statements)
    ]
    if all(size == one.output.type.bytes for size, one in zip(sizes[:-1], slabs.statements, strict=False)):
        return None
    own = {*names}
    others = dict(known.others[names[-1]])
    for statement in slabs.statements:  # what the chain reads is kept until its last piece
        for tensor in statement.inputs:
            if tensor.name not in own and tensor.name not in known.callers:
                others.setdefault(known.owners.get(tensor.name, tensor.name), tensor.type.bytes)
    # the last value may be a part of what is live, or a view of what is in pieces now
    whole = known.owners.get(names[-1], names[-1])
    written = 0 if names[-1] in known.callers or (whole != names[-1] and whole not in own) else slabs.last.type.bytes
    fixed = written + sum(size for name, size in others.items() if name not in own)
    read = {whole, *(known.owners.get(tensor.name, tensor.name) for one in slabs.statements for tensor in one.inputs)}
    bound = written + sum(size for name, size in others.items() if name not in own and name in read)
    sizes[-1] = 0  # its pieces lie in it
    held = sum(sizes) if slabs.halo is Halo.KEPT else 0  # what the piece before has
    steps = [sizes[0], *(before + size for before, size in pairwise(sizes))]
    most = max(size + known.workspaces.get(name, 0) for size, name in zip(steps, names, strict=True))
    seconds = 0.0
    for k, statement in enumerate(slabs.statements):
        full = volume(whole_box(statement.expression))
        computed = sum(volume(one[k][statement.expression]) for one in boxes) / len(boxes) * len(pieces)
        again = max(0.0, computed / full - 1)
        took = known.seconds.get(statement.output.name)
        if took is None:  # its statement did nothing
            seconds += (1 + again) * 2 * statement.output.type.bytes / COPIED_BYTES_PER_SECOND
        elif slabs.halo is Halo.KEPT:
            seconds += again * 2 * statement.output.type.bytes / COPIED_BYTES_PER_SECOND
        else:
            seconds += again * took
        calls = 2 if slabs.halo is Halo.KEPT and again else 1
        seconds += CALL_SECONDS * (calls * len(pieces) - 1)
    return Estimate(slabs, bound + held + most, fixed + held + most, seconds)
