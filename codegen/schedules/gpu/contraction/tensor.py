"""Blocks of products on tensor cores: 32 threads multiply 16 x 16 halves by 16 x 8, or 16 x 8 tf32 by 8 x 8, and add to f32 sums.

The instructions are ``mma.m16n8k16`` and ``mma.m16n8k8`` of PTX, behind functions of the source's prelude. They are given the
operands' fragments, which two more functions take from shared memory, and where they lie there as well: in OpenCL, and on a CPU,
there are no fragments, and the same function is its description in words, in which each thread computes its own four results from
shared memory. Counted in words of four bytes, both instructions have the same fragments, eight words of the depth. A thread's
results are two neighbours in a row, and the two eight rows below (PTX ISA, "Matrix fragments for mma.m16n8k16", "for mma.m16n8k8").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm import tirx

from codegen.lower import tir
from codegen.schedules.gpu.contraction.emit import Emission
from codegen.schedules.gpu.contraction.operand import Operand, tensor_operand
from codegen.schedules.gpu.contraction.tiles import STEP_WORDS, WARP, WORD, TensorTile, half_of
from tensoropt.ir.expression import Scalar
from tensoropt.ir.index import Index, Iterator
from tensoropt.ir.types import DataType

_HEIGHT, _WIDTH = 16, 8
"""Of what one instruction multiplies."""
_EACH = 4
"""Results of a thread in it."""
_ROW_WORDS, _COLUMN_WORDS = 4, 2
"""Words that a thread has of its operands."""
_FUNCTIONS = {
    DataType.FLOAT16: "multiply_add_f16",
    DataType.BFLOAT16: "multiply_add_bf16",
    DataType.FLOAT32: "multiply_add_tf32",
}


class TensorEmission(Emission):
    """Emits one contraction of halves, or of f32 whose operands are rounded to tf32."""

    tile: TensorTile

    def operand(self, name: str, body: Scalar, point: Iterator, size: int) -> Operand:
        """One side's block in shared memory."""
        stored = body if self.tile.itemsize == WORD else half_of(body)
        assert stored is not None
        return tensor_operand(self.context, name, stored, point, self.step, size, self.tile, self.at_once)

    def products(self, step: Any, values: Mapping[Iterator, Any]) -> Any:
        """All products of a step."""
        tile = self.tile
        row, column = self._first()
        emitter = self.context.emitter(values)
        bases = []
        for side, first in ((self.left, row), (self.right, column)):
            start = emitter.index(first * side.point_stride) + self.begins(side, step, 1)
            bases.append(emitter.bind(start))
        lane = tirx.Cast("int32", emitter.index(Index.of(self.thread) % WARP))

        def place(side: Operand, base: Any, point: int, step: int) -> tuple[Any, Any]:
            where = base + tir.integer(point * side.point_stride + step, self.width)
            pitch = side.point_stride * tile.itemsize // WORD
            return tirx.address_of(tir.load(side.memory, where)), tir.integer(pitch)

        high, wide = tile.height // _HEIGHT, tile.width // _WIDTH
        rows, columns = (
            tir.local("uint32", high * _ROW_WORDS, "row_words"),
            tir.local("uint32", wide * _COLUMN_WORDS, "column_words"),
        )
        made = [tir.allocate(rows), tir.allocate(columns)]
        for begin in range(0, tile.depth, STEP_WORDS * WORD // tile.itemsize):
            downs = [
                (_word(rows, down * _ROW_WORDS), *place(self.left, bases[0], down * _HEIGHT, begin))
                for down in range(high)
            ]
            rights = [
                (_word(columns, across * _COLUMN_WORDS), *place(self.right, bases[1], across * _WIDTH, begin))
                for across in range(wide)
            ]
            made += [_call("row_fragment", *one, lane) for one in downs]
            made += [_call("column_fragment", *one, lane) for one in rights]
            for down, left in enumerate(downs):
                for across, right in enumerate(rights):
                    sums = _word(self.sums, (down * wide + across) * _EACH)
                    made.append(_call(_FUNCTIONS[self.left.dtype], sums, *left, *right, lane))
        return tir.sequence([*emitter.statements, *made])

    def _first(self) -> tuple[Index, Index]:
        """The first row and column of a warp's tile in the block."""
        warp, across = Index.of(self.thread) // WARP, self.tile.columns // self.tile.width
        return warp // across * self.tile.height, warp % across * self.tile.width

    def ways(self) -> tuple[Iterator, Iterator]:
        """Loops over a thread's results: two rows and two columns of each instruction."""
        return Iterator("down", self.tile.height // _HEIGHT * 2), Iterator("across", self.tile.width // _WIDTH * 2)

    def reached(self, down: Iterator, across: Iterator) -> tuple[Index, Index]:
        """Row and column in the block of a thread's result."""
        row, column = self._first()
        lane = Index.of(self.thread) % WARP
        row = row + lane // 4 + Index.of(down) // 2 * _HEIGHT + Index.of(down) % 2 * 8
        column = column + lane % 4 * 2 + Index.of(across) // 2 * _WIDTH + Index.of(across) % 2
        return row, column

    def kept_at(self, down: Iterator, across: Iterator) -> Index:
        """Where among a thread's sums a result is."""
        instruction = Index.of(down) // 2 * (self.tile.width // _WIDTH) + Index.of(across) // 2
        return instruction * _EACH + Index.of(down) % 2 * 2 + Index.of(across) % 2


def _word(buffer: Any, place: int) -> Any:
    return tirx.address_of(tir.load(buffer, tir.integer(place)))


def _call(name: str, *arguments: Any) -> Any:
    return tirx.Evaluate(tirx.call_extern("int32", name, *arguments))
