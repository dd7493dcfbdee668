"""The constants that kernels read, laid out one after another in one array of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from codegen.runtime import aligned_empty
from tensoropt.allocation import ALIGNMENT
from tensoropt.ir.program import Array


@dataclass
class Weights:
    """Constants at multiples of ``alignment`` bytes."""

    alignment: int = ALIGNMENT
    offsets: dict[Any, int] = field(default_factory=dict)
    arrays: list[tuple[int, Callable[[], Array]]] = field(default_factory=list)
    size: int = 0

    def place(self, key: Any, size: int, make: Callable[[], Array]) -> int:
        """The offset of a constant; the same key gives the same place."""
        if key not in self.offsets:
            self.offsets[key] = self.size
            self.arrays.append((self.size, make))
            self.size += -(-max(size, 1) // self.alignment) * self.alignment
        return self.offsets[key]

    def constant(self, key: Any, array: Array) -> int:
        """The offset of a constant that is read as it is."""
        return self.place(key, array.nbytes, lambda: array)

    def fill(self) -> Array:
        """All constants in one aligned array of bytes."""
        memory = aligned_empty(max(self.size, self.alignment))
        for offset, make in self.arrays:
            data = np.ascontiguousarray(make())
            memory[offset : offset + data.nbytes] = data.reshape(-1).view(np.uint8)
        return memory
