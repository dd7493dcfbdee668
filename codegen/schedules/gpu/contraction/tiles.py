"""Tiles of a result: what a block of threads computes, and what one thread, or one warp on tensor cores, has of it."""

from __future__ import annotations

from dataclasses import dataclass

from tensoropt.ir.expression import Cast, Scalar
from tensoropt.ir.types import HALVES

PAD = 4
"""Elements between the rows of a block in shared memory, so that threads that store down a column meet in few banks."""
PAD_BYTES = 16
"""The same in bytes where a row runs along the depth, for tensor cores."""
WARP = 32
"""Threads that multiply together on tensor cores."""
WORD = 4
"""Bytes of what a thread has of an operand there: two halves, or one f32 that is rounded to tf32."""
STEP_WORDS = 8
"""Words of the depth that one instruction multiplies."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of ``rows`` x ``columns`` results, of which a thread has ``height`` x ``width``; ``depth`` products at a time."""

    rows: int
    columns: int
    depth: int
    height: int
    width: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.height * (self.columns // self.width)

    @property
    def sums(self) -> int:
        """Results of a thread."""
        return self.height * self.width

    def shared_bytes(self, itemsize: int) -> int:
        """Of both operands, twice: one is read while the other is filled."""
        return 2 * self.depth * (self.rows + self.columns + 2 * PAD) * itemsize

    def registers(self, itemsize: int) -> int:
        """About what a thread needs."""
        return self.sums * itemsize // 4 + 40

    def read_bytes(self, itemsize: int) -> float:
        """That a block reads of its shared memory for a step; half are the same for many threads and count once."""
        return self.threads * (self.height + self.width) * self.depth * itemsize / 2

    def label(self) -> str:
        """A short text for reports."""
        return f"{self.rows}x{self.columns}x{self.depth} of {self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class TensorTile(Tile):
    """A tile for tensor cores: ``height`` x ``width`` are a warp's. Operands have ``itemsize`` bytes in shared memory."""

    itemsize: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.height * (self.columns // self.width) * WARP

    @property
    def sums(self) -> int:
        """Results of a thread."""
        return self.height * self.width // WARP

    def shared_bytes(self, itemsize: int) -> int:
        """Of both operands, twice."""
        return 2 * (self.depth * self.itemsize + PAD_BYTES) * (self.rows + self.columns)

    @property
    def brought(self) -> int:
        """Elements that a thread has on the way to shared memory."""
        return (self.rows + self.columns) * self.depth // self.threads

    def registers(self, itemsize: int) -> int:
        """About what a thread needs: sums, fragments, what it has on the way to shared memory."""
        return self.sums + self.height // 4 + self.width // 4 + self.brought * self.itemsize // WORD + 32

    def read_bytes(self, itemsize: int) -> float:
        """That a block reads of its shared memory for a step."""
        return float(self.threads // WARP * (self.height + self.width) * self.depth * self.itemsize)

    def label(self) -> str:
        """A short text for reports."""
        rounded = "tf32 " if self.itemsize == WORD else ""
        return f"{self.rows}x{self.columns}x{self.depth} of {self.height}x{self.width} on {rounded}tensor cores"


def half_of(body: Scalar) -> Scalar | None:
    """The value of a half type that a value is, or is the f32 of; None where it is neither."""
    if body.dtype in HALVES:
        return body
    return body.argument if isinstance(body, Cast) and body.argument.dtype in HALVES else None
