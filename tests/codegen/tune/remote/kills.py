"""Kills servers, the tracker or the tuner at random moments while kernels are tuned, and says what became of it.

    python tests/codegen/tune/remote/kills.py [--target cpu|opencl] [--kills 20] [--seed 0] [server] [tracker] [tuner]

with the checkout in PYTHONPATH. Two servers of the target and a tracker on loopback; the tuner measures in rounds, each with a
database of its own, until so many kills have hit it. What was killed is started again within a second. Prints a line for each
victim.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.modules["torch"] = None  # type: ignore[assignment]  # it would be imported for nothing

from codegen.targets.parsing import Target
from codegen.tune.database import Database
from codegen.tune.records import Records
from tests.codegen.tune.remote.network import KEY, LONGEST, ROOT, Network

VICTIMS = ("server", "tracker", "tuner")
SERVERS = 2
_GAPS = {"server": 0.25, "tracker": 0.25, "tuner": 1.0}
"""The longest time between two kills, as a share of what tuning takes that nobody disturbs."""

Entries = dict[tuple[str, str], dict[str, Any]]


@dataclass(slots=True)
class Report:
    """What became of a number of kills."""

    victim: str
    kills: int = 0
    rounds: int = 0
    stored: int = 0
    """Measurements that tuners said they had stored."""
    missing: int = 0
    """Of these, those that the database did not hold."""
    repeated: int = 0
    """Of these, those that were measured again."""
    blamed: int = 0
    """Candidates that are stored as failed because a process was killed."""
    lost: int = 0
    """Devices that tuners saw lost."""
    resumed: int = 0
    """Rounds that ended early, and were gone on with."""
    incomplete: int = 0
    """Rounds after which the entries were others than those of tuning that nobody disturbs."""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing was lost."""
        return not (self.missing or self.repeated or self.blamed or self.incomplete)

    def __str__(self) -> str:
        return (
            f"{self.victim:<8}{self.kills:>6}{self.rounds:>8}{self.stored:>8}{self.missing:>9}{self.repeated:>10}"
            f"{self.blamed:>8}{self.lost:>14}{self.resumed:>9}{self.incomplete:>12}{self.seconds:>7.0f}"
        )


HEADER = (
    f"{'victim':<8}{'kills':>6}{'rounds':>8}{'stored':>8}{'missing':>9}{'repeated':>10}{'blamed':>8}{'devices lost':>14}"
    f"{'resumed':>9}{'incomplete':>12}{'s':>7}"
)


@dataclass(slots=True)
class Tuner:
    """A tuning process, and what it said."""

    network: Network
    database: Path
    kernels: int
    trials: int
    patience: float = 60.0
    told: Entries = field(default_factory=dict)
    repeated: int = 0
    stored: int = 0
    lost: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, or goes on."""
        program = Path(__file__).with_name("killed_remote_tuning.py")
        arguments = [self.database, self.kernels, self.trials, self.network.address, KEY, self.patience]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, program, *map(str, arguments)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=output,
            )

    @property
    def running(self) -> bool:
        """Whether it is not done."""
        return self._process is not None and self._process.poll() is None

    @property
    def has_said_something(self) -> bool:
        """Whether it has stored something since it was started."""
        return self._output.exists() and self._output.stat().st_size > 0

    def kill(self) -> None:
        """Kills it, and takes note of what it said."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._listen()

    def ended(self) -> str:
        """How it ended by itself: "done", "devices", "given up", or nothing where it failed."""
        assert self._process is not None
        self._process.wait(LONGEST)
        return self._listen()

    @property
    def _output(self) -> Path:
        return self.database.with_suffix(".told")

    def _listen(self) -> str:
        ended = ""
        for line in self._output.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # it was cut short, so it was not said
            if not line.startswith("["):
                ended, _, lost = line.rpartition(" lost ")
                self.lost += int(lost)
                continue
            kernel, variant, entry = json.loads(line)
            self.repeated += variant != "{}" and (kernel, variant) in self.told
            self.stored += 1
            self.told[kernel, variant] = entry
        self._output.unlink()
        return ended


def held(path: Path, kernels: set[str], target: Target) -> Entries:
    """What a database holds of some kernels on a target."""
    with Database(path) as database:
        assert database.warnings == []
        records = Records(database, target)
        return {(kernel, variant): entry for kernel in kernels for variant, entry in records.read(kernel).items()}


def disturbed(
    victim: str, kills: int, seed: int, folder: Path, kernels: int = 6, trials: int = 10, target: str = "cpu"
) -> Report:
    """Kills so many times, in as many rounds as that takes."""
    report, moments = Report(victim), random.Random(seed)
    began = time.monotonic()
    with Network(SERVERS, target=target) as network:
        network.registered(SERVERS)
        calm = Tuner(network, folder / "calm.sqlite", kernels, trials)
        calm.start()
        started = time.monotonic()
        assert calm.ended() == "done"
        assert len(calm.told) == kernels * trials
        longest = (time.monotonic() - started) * _GAPS[victim]
        while report.kills < kills:
            network.registered(SERVERS)  # tuning does not begin without a device
            tuner = Tuner(network, folder / f"{victim}-{report.rounds}.sqlite", kernels, trials)
            _one_round(tuner, report, kills, moments, longest)
            found = held(tuner.database, {kernel for kernel, _ in calm.told}, network.target)
            report.rounds += 1
            report.stored += tuner.stored
            report.repeated += tuner.repeated
            report.lost += tuner.lost
            report.blamed += sum("its process" in str(entry.get("failed")) for entry in found.values())
            report.incomplete += set(found) != set(calm.told)
    report.seconds = time.monotonic() - began
    return report


def _one_round(tuner: Tuner, report: Report, kills: int, moments: random.Random, longest: float) -> None:
    tuner.start()
    while tuner.running and report.kills < kills:
        until = time.monotonic() + moments.uniform(0.0, longest)
        while tuner.running and time.monotonic() < until:
            time.sleep(0.02)
        if not tuner.running:
            break
        report.kills += 1
        _kill(report.victim, tuner, moments)
        if report.victim == "tuner":
            report.missing += _missing(tuner)
            tuner.start()
    while tuner.ended() != "done":
        report.resumed += 1
        assert report.resumed <= 2 * kills, "tuning does not end"
        tuner.network.registered(SERVERS)
        tuner.start()
    report.missing += _missing(tuner)


def _kill(victim: str, tuner: Tuner, moments: random.Random) -> None:
    network, pause = tuner.network, moments.uniform(0.0, 1.0)
    match victim:
        case "tuner":
            tuner.kill()
        case "tracker":
            network.kill_tracker()
            time.sleep(pause)
            network.start_tracker()
        case "server":
            number = moments.randrange(SERVERS)
            network.kill_server(number)
            time.sleep(pause)
            network.start_server(number)


def _missing(tuner: Tuner) -> int:
    """How many of the measurements that it said it had stored are not in the database as it said last."""
    found = held(tuner.database, {kernel for kernel, _ in tuner.told}, tuner.network.target)
    return sum(found.get(where) != entry for where, entry in tuner.told.items())


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("victims", nargs="*", default=VICTIMS)
    parser.add_argument("--target", default="cpu", choices=["cpu", "opencl"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(HEADER, flush=True)
    good = True
    for victim in options.victims:
        with tempfile.TemporaryDirectory() as folder:
            report = disturbed(victim, options.kills, options.seed, Path(folder), target=options.target)
        good &= report.good
        print(report, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
