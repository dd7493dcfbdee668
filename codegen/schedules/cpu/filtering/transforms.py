"""The transforms of a strip, up to a vector of neighbouring tiles: windows to points, and products at points to outputs.

Inputs are read line by line as they lie, transformed down the columns, separated into every m-th neighbour, and transformed
along the line; outputs go the other way. So all loads and stores of tensors are contiguous.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.lower.emitter import Emitter, Value, flat_index
from codegen.schedules.context import Epilogue
from codegen.schedules.cpu.context import Context
from codegen.schedules.cpu.filtering.linear import combine
from codegen.schedules.cpu.filtering.recognize import Axis, Filtering
from codegen.schedules.cpu.filtering.shuffles import interleave, separate, shifted
from tensoropt.ir.expression import Access
from tensoropt.ir.index import Index, Iterator

Variables = Mapping[Iterator, Any]
DTYPE = "float32"


class Strip:
    """A chunk of a line of tiles: ``chunk`` in a loop gives its first tile, ``used`` lanes of it are tiles."""

    def __init__(self, chunk: Iterator, first: int, used: int, lanes: int) -> None:
        self.chunk, self.first, self.used, self.lanes = chunk, first, used, lanes

    @property
    def tile(self) -> Index:
        """The first tile along the line."""
        return (Index.of(self.chunk) + self.first) * self.lanes


def input_strip(
    context: Context, filtering: Filtering, strip: Strip, where: Mapping[Iterator, Index], variables: Variables,
    target: Any, base: Any, plane: int,
) -> Any:  # fmt: skip
    """Transforms one channel of a strip; point p goes to ``target[base + p · plane]``."""
    emitter = context.emitter(variables)
    across, down, lanes = filtering.across, filtering.down, strip.lanes
    rows = down.points if down is not None else 1
    together = across.step * across.apart
    vectors = together + int(across.points > across.step)
    columns = _columns(emitter, filtering, strip, vectors)
    lines = [_line(context, emitter, filtering, strip, row, columns, where) for row in range(rows)]
    if down is not None:
        by_vector = [
            combine(down.inputs, [line[number] for line in lines], DTYPE, lanes, emitter.bind)
            for number in range(vectors)
        ]
        lines = [[column[row] for column in by_vector] for row in range(rows)]
    stores = []
    for row, line in enumerate(lines):
        neighbours = separate(line[:together], lanes, emitter.bind)
        for residue in range(across.apart):
            places = []
            for place in range(across.points):
                shift, within = divmod(place, across.step)
                own = within * across.apart + residue
                filled = [together * number + own for number in range(shift)]
                vector = neighbours[own]
                places.append(shifted(vector, line[together], filled, lanes, emitter.bind) if shift else vector)
            for column, value in enumerate(combine(across.inputs, places, DTYPE, lanes, emitter.bind)):
                point = (row * across.points + column) * plane
                where_to = base + tir.integer(point + residue * across.tile.extent, context.width)
                stores.append(_kept(target, value, where_to, strip, across))
    return tir.sequence([*emitter.statements, *stores])


def _kept(target: Any, value: Any, place: Any, strip: Strip, across: Axis) -> Any:
    """Stores points of a strip. Whole vectors may be written beyond its tiles, for what comes next writes there again; but the
    residues of a line stand one after another, and only the first strip of a line comes before all of the next residue's."""
    if across.apart == 1 or strip.used == strip.lanes:
        return tir.store(target, value, place, strip.lanes)
    return tir.masked_store(target, value, place, tir.first_lanes(strip.used, strip.lanes))


def _columns(emitter: Emitter, filtering: Filtering, strip: Strip, vectors: int) -> list[tuple[Index, Any]]:
    """For each vector of neighbours its first column, and the mask of those inside the input; None where all are."""
    across = filtering.across
    extent = int(filtering.window.source.shape[filtering.column])
    start = filtering.window.indices[filtering.column]
    zero = {iterator: Index.of(0) for iterator in (across.place, across.residue) if iterator is not None}
    first = start.substitute({across.tile: strip.tile, **zero})
    together = across.step * across.apart
    found = []
    for number in range(vectors):
        index = first + number * strip.lanes
        needed = strip.lanes if number < together else (across.points - across.step) * across.apart
        mask = None
        lane = tirx.Ramp(tir.integer(0), 1, strip.lanes)
        position = tir.broadcast(emitter.bind(emitter.index(index)), strip.lanes) + lane
        if index.low < 0:
            mask = tirx.GE(position, tir.number(0, emitter.width, strip.lanes))
        if index.high + strip.lanes > extent:
            below = tirx.LT(position, tir.number(extent, emitter.width, strip.lanes))
            mask = below if mask is None else tirx.And(mask, below)
        if needed < strip.lanes:
            few = tir.first_lanes(needed, strip.lanes)
            mask = few if mask is None else tirx.And(mask, few)
        found.append((index, mask))
    return found


def _line(
    context: Context, emitter: Emitter, filtering: Filtering, strip: Strip, row: int, columns: list[tuple[Index, Any]],
    where: Mapping[Iterator, Index],
) -> list[Any]:  # fmt: skip
    """The vectors of one line of the window, 0 outside the input."""
    window = filtering.window
    placed = dict(where)
    if filtering.down is not None:
        placed[filtering.down.place] = Index.of(row)
    indices = [
        Index.of(0) if number == filtering.column else index.substitute(placed)
        for number, index in enumerate(window.indices)
    ]
    access = Access(window.source, indices, window.outside)
    inside, _ = emitter.conditions(access)
    buffer = context.buffers[window.source]
    start = emitter.bind(emitter.index(flat_index(access)))
    blank = tir.number(0, DTYPE, strip.lanes)
    vectors = []
    for index, mask in columns:
        position = start + emitter.index(index)
        if inside is not None:
            lines = tir.broadcast(inside, strip.lanes)
            mask = lines if mask is None else tirx.And(lines, mask)
        if mask is None:
            value = tir.load(buffer, position, strip.lanes)
        else:
            value = tir.masked_load(buffer, position, mask, blank, tir.typed(DTYPE, strip.lanes))
        vectors.append(emitter.bind(value))
    return vectors


def output_strip(
    context: Context, filtering: Filtering, epilogue: Epilogue, strip: Strip, where: Mapping[Iterator, Index],
    variables: Variables, source: Any, base: Any, plane: int,
) -> Any:  # fmt: skip
    """Transforms one feature of a strip from ``source[base + p · plane]`` for the points p, and stores what the epilogue says."""
    emitter = context.emitter(variables)
    across, down, lanes = filtering.across, filtering.down, strip.lanes
    rows = down.points if down is not None else 1
    outputs: list[list[Any]] = []
    for residue in range(across.apart):
        lines = []
        for row in range(rows):
            points = []
            for column in range(across.points):
                offset = (row * across.points + column) * plane + residue * across.tile.extent
                points.append(emitter.bind(tir.load(source, base + tir.integer(offset, context.width), lanes)))
            lines.append(combine(across.outputs, points, DTYPE, lanes, emitter.bind))
        if down is not None:
            by_column = [
                combine(down.outputs, [line[column] for line in lines], DTYPE, lanes, emitter.bind)
                for column in range(across.step)
            ]
            lines = [[column[row] for column in by_column] for row in range(down.step)]
        outputs.append(lines)
    statements = list(emitter.statements)
    for row in range(len(outputs[0])):
        line = [lines[row][column] for column in range(across.step) for lines in outputs]
        shuffling = context.emitter(variables)
        vectors = interleave(line, lanes, shuffling.bind)
        statements += shuffling.statements
        stored = [
            _stored(context, filtering, epilogue, strip, row, number, vector, where, variables)
            for number, vector in enumerate(vectors)
        ]
        body = tir.sequence([one for one in stored if one is not None])
        statements.append(_guarded(context, filtering, row, where, variables, body))
    return tir.sequence(statements)


def _guarded(
    context: Context, filtering: Filtering, row: int, where: Mapping[Iterator, Index], variables: Variables, body: Any
) -> Any:  # fmt: skip
    """The body where the line lies inside the result: the last tile may reach below it."""
    down = filtering.down
    if down is None:
        return body
    iterator = filtering.along(down)
    line = filtering.outputs[iterator].substitute({filtering.offsets[0]: Index.of(row)})
    if line.high < iterator.extent:
        return body
    emitter = context.emitter(variables)
    position = emitter.index(line.substitute(where))
    inside = tirx.LT(position, tir.integer(iterator.extent, context.width))
    return tir.sequence([*emitter.statements, tir.when(inside, body)])


def _stored(
    context: Context, filtering: Filtering, epilogue: Epilogue, strip: Strip, row: int, number: int, vector: Any,
    where: Mapping[Iterator, Index], variables: Variables,
) -> Any:  # fmt: skip
    """One vector of neighbouring outputs through the epilogue; None where none of them lies in the result."""
    across, lanes = filtering.across, strip.lanes
    extent, together = filtering.along(across).extent, across.step * across.apart
    first = strip.tile * together + number * lanes
    used = min(lanes, strip.used * together - number * lanes)
    if strip.used < lanes or first.high + lanes > extent:
        used = min(used, extent - first.high)
    if used <= 0:
        return None
    lane = Iterator("lane", used)
    emitter = context.emitter(variables, lane, lanes)
    placed: dict[Iterator, Index] = {}
    for iterator in epilogue.stage.scope.traversal:
        index = filtering.outputs[iterator]
        if across.tile in index.iterators():
            placed[iterator] = first + lane
        else:
            placed[iterator] = index.substitute({filtering.offsets[0]: Index.of(row)}).substitute(where)
    access, body, position = epilogue.at(placed)
    emitter.give(access, Value(emitter.bind(vector), False))
    stored = emitter.stored(body)
    written = emitter.write(context.buffers[epilogue.stage.result], position, stored)
    return tir.sequence([*emitter.statements, written])
