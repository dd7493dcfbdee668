"""A tuning process for tests to kill: says on standard output what it has measured, a line for each variant that is stored."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.modules["torch"] = None  # type: ignore[assignment]  # it would be imported for nothing, at every start

from codegen.targets.parsing import parse_target  # noqa: E402
from codegen.tune.database import Database  # noqa: E402
from codegen.tune.pool import Request  # noqa: E402
from codegen.tune.records import Records  # noqa: E402
from codegen.tune.tuning import tune_program  # noqa: E402
from tensoropt.allocation import Placement  # noqa: E402
from tensoropt.ir.program import Program  # noqa: E402
from tests.strategies.networks import convolution, program, random_array, tensor  # noqa: E402

KERNELS = 3


def network(kernels: int = KERNELS) -> tuple[Program, Placement]:
    """Convolutions one after another, all of them different kernels."""
    values = [tensor(f"v{number}", 1, 8 + 8 * number, 9, 9) for number in range(kernels + 1)]
    weights, statements = {}, []
    for number, (source, target) in enumerate(pairwise(values)):
        kernel = tensor(f"k{number}", int(target.shape[1]), int(source.shape[1]), 3, 3)
        weights[kernel.name] = random_array(kernel, number)
        statements.append(convolution(target, source, kernel, 1))
    offsets = {value.name: number << 20 for number, value in enumerate(values[1:-1])}
    return program(statements, [values[0]], [values[-1]], **weights), Placement(offsets, kernels << 20, kernels << 20)


class Talking(Records):
    """Records that say what they have stored."""

    def write(self, kernel: str, entries: Mapping[str, dict[str, Any]]) -> None:
        """See ``Records``."""
        super().write(kernel, entries)
        lines = [f"{json.dumps([kernel, variant, entry])}\n" for variant, entry in entries.items()]
        print("".join(lines), end="", flush=True)


def main() -> None:
    """Tunes with the database, the number of trials and for the target that the arguments name."""
    target = parse_target(sys.argv[3], 2 if sys.argv[3] == "cpu" else None)
    with Database(Path(sys.argv[1])) as database:
        made, plan = network()
        tune_program(made, plan, target, Talking(database, target), Request(int(sys.argv[2]), thorough=True))
        assert not database.warnings, database.warnings
    print("done", flush=True)


if __name__ == "__main__":
    main()
