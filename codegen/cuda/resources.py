"""What kernels need of a multiprocessor, as ``ptxas -v`` tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Resources:
    """Of one kernel: registers of a thread, bytes of its stack and of what was spilled there; static shared bytes of a block."""

    registers: int
    stack_bytes: int = 0
    spilled_store_bytes: int = 0
    spilled_load_bytes: int = 0
    shared_bytes: int = 0
    barriers: int = 0

    @property
    def spills(self) -> bool:
        """Whether a thread's values did not fit in registers."""
        return self.spilled_store_bytes + self.spilled_load_bytes > 0


_ENTRY = re.compile(r"Compiling entry function '([^']+)'")
_PROPERTIES = re.compile(r"Function properties for (\S+)")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+)(?:\+(\d+))? bytes smem")
_BARRIERS = re.compile(r"used (\d+) barriers")


def parse_report(text: str) -> Mapping[str, Resources]:
    """Resources by the name of each kernel. Functions that were not inlined are counted with the kernel that calls them."""
    found: dict[str, Resources] = {}
    entry = described = ""
    stack: dict[str, tuple[int, int, int]] = {}
    for line in text.splitlines():
        if match := _ENTRY.search(line):
            entry = match[1]
        elif match := _PROPERTIES.search(line):
            described = match[1]
        elif match := _STACK.search(line):
            stack[described] = (int(match[1]), int(match[2]), int(match[3]))
        elif (match := _USED.search(line)) and entry:
            shared, barriers = _SHARED.search(match[2]), _BARRIERS.search(match[2])
            found[entry] = Resources(
                int(match[1]),
                *stack.get(entry, (0, 0, 0)),
                sum(int(part) for part in shared.groups() if part) if shared else 0,
                int(barriers[1]) if barriers else 0,
            )
            entry = ""
    return MappingProxyType(found)
