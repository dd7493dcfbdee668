"""Servers, the tracker and the tuner killed amid tuning: nothing that was stored is lost, and tuning ends with all of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tensoropt.api import tuning
from tensoropt.api.elsewhere import fleet_for
from tensoropt.cli import main
from tests.cli.test_tune import convolutions
from tests.codegen.tune.remote.kills import HEADER, VICTIMS, Tuner, disturbed, held
from tests.codegen.tune.remote.network import KEY, LONGEST, Network

KERNELS, TRIALS = 3, 2


def has_stored(tuner: Tuner) -> None:
    """Waits until something is stored."""
    until = time.monotonic() + LONGEST
    while not tuner.has_said_something and time.monotonic() < until:
        time.sleep(0.02)
    assert tuner.running, "it is not done"


def require_all(tuner: Tuner) -> None:
    """Everything that it said is in the database, and that is everything."""
    found = held(tuner.database, {kernel for kernel, _ in tuner.told}, tuner.network.target)
    assert found == tuner.told
    assert len(found) == KERNELS * TRIALS
    assert tuner.repeated == 0


def test_a_server_the_tracker_and_the_tuner_are_killed(tmp_path: Path) -> None:
    with Network(1) as network:
        network.registered(1)
        tuner = Tuner(network, tmp_path / "t.sqlite", KERNELS, TRIALS)
        tuner.start()
        has_stored(tuner)
        network.kill_tracker()
        network.kill_server(0)
        network.start_server(0)
        network.start_tracker()
        network.registered(1)
        tuner.kill()
        before = dict(tuner.told)
        assert held(tuner.database, {kernel for kernel, _ in before}, network.target).items() >= before.items()
        tuner.start()
        assert tuner.ended() == "done"
        require_all(tuner)


def test_tuning_ends_where_no_device_is_left_and_goes_on_where_one_is_again(tmp_path: Path) -> None:
    with Network(1) as network:
        network.registered(1)
        tuner = Tuner(network, tmp_path / "t.sqlite", KERNELS, TRIALS, patience=1.0)
        tuner.start()
        has_stored(tuner)
        network.kill_server(0)
        assert tuner.ended() == "devices"
        assert 0 < len(tuner.told) < KERNELS * TRIALS
        network.start_server(0)
        network.registered(1)
        tuner.patience = LONGEST
        tuner.start()
        assert tuner.ended() == "done"
        require_all(tuner)


@pytest.mark.parametrize("dead", ["server", "tracker"])
def test_devices_that_are_lost_are_told_in_one_sentence(
    dead: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with a status of their own."""
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    model = convolutions(tmp_path / "model.onnx", 4, 8)
    with Network(1) as network:
        network.registered(1)

        def killing(*arguments: object) -> object:
            fleet = fleet_for(*arguments)  # type: ignore[arg-type]
            fleet._patience = 1.0
            network.kill_server(0) if dead == "server" else network.kill_tracker()
            return fleet

        monkeypatch.setattr(tuning, "fleet_for", killing)
        assert (
            main(["tune", str(model), "--rpc", str(network.address), "--key", KEY, "--db", str(tmp_path / "db")]) == 2
        )
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert f"no device under the key '{KEY}' of the tracker at {network.address} has answered for 1 seconds" in error
    assert "run it again to go on" in error


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "opencl"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_twenty_kills_at_random_moments_lose_nothing(victim: str, target: str, tmp_path: Path) -> None:
    report = disturbed(victim, 20, 0, tmp_path, target=target)
    print(f"\n{HEADER}\n{report}")
    assert report.good, str(report)
