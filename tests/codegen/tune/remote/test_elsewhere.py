"""``tune --rpc``: what is measured on devices of a network is kept for these, and what is wrong is told in one sentence."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import tensoropt
from codegen.targets.cpu import host_target
from codegen.tune.database import Database
from codegen.tune.kernels import distinct_kernels
from codegen.tune.records import device_name, device_of
from codegen.tune.remote import description, fleet
from codegen.tune.remote.calls import DESCRIBE
from codegen.tune.remote.fleet import Fleet
from codegen.tune.remote.session import RemoteSession
from codegen.tune.session import Session, Trial
from codegen.tune.space import DEFAULT, Variant
from tensoropt.cli import main
from tensoropt.isolated import Lost
from tests.cli.test_tune import convolutions
from tests.codegen.tune.killed_tuning import network as kernels_in_a_row
from tests.codegen.tune.remote.network import KEY, Network, descendants, free_ports
from tests.codegen.tune.test_faults import FAULTS, faulty
from tests.strategies.compilers import OPENCL


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Two devices, which know the faults of ``faulty_measuring``."""
    with Network(2, {"MEASURING": "faulty_measuring"}) as made:
        made.registered(2)
        yield made


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))


def rows(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """What a database holds: the target and the device by kernel and variant."""
    with Database(path) as database:
        found = database._connection.execute("SELECT kernel, variant, target, device FROM measurements")  # type: ignore[union-attr]
        return {(kernel, variant): (target, device) for kernel, variant, target, device in found}


def test_what_devices_measure_is_used_by_optimize_there(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, here, there = convolutions(tmp_path / "model.onnx", 4, 8, 16), tmp_path / "here", tmp_path / "there"
    arguments = ["tune", str(model), "--rpc", str(network.address), "--key", KEY, "--trials", "3", "--db", str(here)]
    with monkeypatch.context() as elsewhere:  # this machine is another one than the devices'
        elsewhere.setattr("codegen.tune.records.device_name", lambda: "another processor")
        assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"] == {"key": KEY, "device": device_name(), "used": found["devices"]["used"], "lost": 0}
    assert found["devices"]["used"] in (1, 2)
    assert (found["stopped"], found["artefact"], found["warnings"]) == ("", None, [])
    assert all(kernel["measured"] + len(kernel["failed"]) == 3 for kernel in found["kernels"])
    before = rows(here)
    assert {device for _, device in before.values()} == {device_name()}
    assert {target for target, _ in before.values()} == {json.dumps(host_target(2).describe(), sort_keys=True)}

    assert main(["cache", "--db", str(here), "--export", str(there)]) == 0
    capsys.readouterr()
    compiled = tensoropt.optimize(model, threads=2, tune="fast", db=there, check=False)
    assert rows(there).keys() >= before.keys()
    known = {key for key in before if key[0].startswith("kernel: ")}
    assert len({kernel for kernel, _ in known}) == len(compiled.tuning["kernels"]) == 2
    assert {kernel for kernel, _ in rows(there)} == {kernel for kernel, _ in before}, "the same kernels and comparisons"


def test_devices_of_opencl_measure_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And what they measured is not measured again on their machine."""
    model, db = convolutions(tmp_path / "model.onnx", 4, 8, 16), tmp_path / "t.sqlite"
    with Network(2, target="opencl") as network:
        network.registered(2)
        arguments = [
            "--rpc",
            str(network.address),
            "--key",
            KEY,
            "--target",
            "opencl",
            "--trials",
            "2",
            "--db",
            str(db),
        ]
        assert main(["tune", str(model), *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert all(kernel["measured"] + len(kernel["failed"]) == 2 for kernel in found["kernels"])
    assert all(0 < kernel["tuned_ms"] <= kernel["default_ms"] for kernel in found["kernels"])
    before = rows(db)
    assert {device for _, device in before.values()} == {device_of(OPENCL)}
    with pytest.MonkeyPatch.context() as here:
        here.setattr(Session, "measure", None)
        assert main(["tune", str(model), "--target", "opencl", "--trials", "2", "--db", str(db)]) == 0
    assert rows(db) == before


def test_the_faults_of_candidates_elsewhere_cost_nothing_else(network: Network) -> None:
    found = Fleet(network.address, KEY)
    found.described()
    made, plan = kernels_in_a_row()
    kernel = distinct_kernels(made, plan, found.target)[0].kernel
    alternative = distinct_kernels(made, plan, found.target)[0].alternative()
    names = ("crash", "refuse", "nothing", "after", "leave")
    tried = [DEFAULT, *(faulty(number, fault) for number, fault in enumerate(names)), Variant({"contraction": 1})]
    session = RemoteSession(found)
    trials = [Trial(alternative, {kernel.output.name: one.parameters} if one.parameters else {}) for one in tried]
    first, *wrong, honest = session.measure(trials, 0.1)
    for fault, outcome in zip(names, wrong, strict=True):
        assert re.search(FAULTS[fault], outcome.cost.reason), fault
    assert first.cost.source == honest.cost.source == "measured"
    assert found.lost == 0
    session.worker.stop()
    found.close()
    assert found.in_use == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rpc", "box:1"], "--rpc needs --key"),
        (["--key", "k"], "--key needs --rpc"),
        (["--rpc", "box", "--key", "k"], "--rpc is HOST:PORT"),
        (["--rpc", "{free}", "--key", "k"], "no tracker answers at {free}"),
        (["--rpc", "{tracker}", "--key", "k"], "no device under the key 'k', only under 'device'"),
        (["--rpc", "{tracker}", "--key", KEY, "--target", "opencl"], "of the target cpu, not opencl"),
        (["--rpc", "{tracker}", "--key", KEY, "--tf32"], "cpu has none; leave --tf32 out"),
        (["--rpc", "{tracker}", "--key", KEY, "--threads", "2"], "start the devices' servers with it"),
    ],
)
def test_wrong_usage_is_told(
    options: list[str], words: str, network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"free": f"127.0.0.1:{free_ports(1)[0]}", "tracker": str(network.address)}
    arguments = [option.format(**places) for option in options]
    assert main(["tune", str(tmp_path / "model.onnx"), *arguments, "--db", str(tmp_path / "db")]) == 2
    error = capsys.readouterr().err
    assert words.format(**places) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "db").exists()


def test_a_folder_is_not_tuned_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(tmp_path), "--rpc", "box:1", "--key", "k"]) == 2
    assert "name the model" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["generator_version", "_of_tvm"])
def test_a_device_of_another_version_is_refused(
    what: str, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(["another", "ours"])
    monkeypatch.setattr(description, what, lambda *arguments: next(answers, "ours"))
    arguments = ["--rpc", str(network.address), "--key", KEY]
    assert main(["tune", str(tmp_path / "model.onnx"), *arguments]) == 2
    error = capsys.readouterr().err
    assert "cannot be used: it has another" in error
    assert "install the same tensoropt on both" in error


def test_a_session_that_is_killed_does_not_cost_the_server(network: Network) -> None:
    """Nor one whose tuner says nothing any more."""
    for number in (signal.SIGKILL, signal.SIGALRM):
        found = Fleet(network.address, KEY)
        link = found.acquire(lambda: True)
        assert link is not None
        (session,) = [pid for server in network.servers if server is not None for pid in descendants(server.pid)]
        os.kill(session, number)
        with pytest.raises(Lost):
            link.call(DESCRIBE)
        found.release(link, lost=True)
        links = [found.acquire(lambda: True), found.acquire(lambda: True)]
        for one in links:
            assert one is not None, "both serve again"
            assert one.call(DESCRIBE)
            found.release(one)
        found.close()
        assert (found.in_use, found.lost, found.most_in_use) == (0, 1, 2)


def test_no_device_is_free(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another tuner has them all, for longer than one waits."""
    other = Fleet(network.address, KEY)
    links = [other.acquire(lambda: True), other.acquire(lambda: True)]
    monkeypatch.setattr(fleet.Fleet.__init__, "__defaults__", (0.5, False))
    assert main(["tune", str(tmp_path / "model.onnx"), "--rpc", str(network.address), "--key", KEY]) == 2
    error = capsys.readouterr().err
    assert "could be had for 0.5 seconds, of 2 that it has: others use them" in error
    for link in links:
        assert link is not None
        other.release(link)
    other.close()
