"""Tuning on the devices of a network, for tests to kill: says on standard output what it has stored, and at last how it ended."""

from __future__ import annotations

import sys
from pathlib import Path

sys.modules["torch"] = None  # type: ignore[assignment]

from codegen.tune.database import Database  # noqa: E402
from codegen.tune.pool import Request  # noqa: E402
from codegen.tune.remote.fleet import Fleet  # noqa: E402
from codegen.tune.remote.session import RemoteSession  # noqa: E402
from codegen.tune.remote.tracker import Address  # noqa: E402
from codegen.tune.tuning import tune_program  # noqa: E402
from tests.codegen.tune.killed_tuning import Talking, network  # noqa: E402


def main() -> None:
    """Tunes with the database, the numbers of kernels and trials, the tracker, the key and the patience that the arguments name."""
    path, kernels, trials, address, key, patience = sys.argv[1:]
    fleet = Fleet(Address.parse(address), key, float(patience))
    fleet.described()
    with Database(Path(path)) as database:
        made, plan = network(int(kernels))
        records = Talking(database, fleet.target, fleet.description.device)
        request = Request(int(trials), thorough=True)
        tuning = tune_program(
            made, plan, fleet.target, records, request, session=lambda: RemoteSession(fleet), builders=8
        )
        assert not database.warnings, database.warnings
    fleet.close()
    ended = tuning.stopped or ("given up" if tuning.given_up else "done")
    print(f"{ended} lost {fleet.lost}", flush=True)


if __name__ == "__main__":
    main()
