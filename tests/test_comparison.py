"""Engines are compared as what they are: those that fail are skipped with a sentence, and a wrong result never gets a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import tensoropt
from tensoropt import comparison
from tensoropt.check import random_feeds
from tensoropt.comparison import Subject, compare
from tensoropt.errors import CheckError
from tensoropt.peers.onnxruntime import OnnxRuntime
from tensoropt.timing import Series
from tests.strategies.fake_peers import Absent, Crashing, Right, Wrong
from tests.strategies.small_models import model as small_model


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("comparison")
    model = folder / "dense.onnx"
    dense = small_model("m = MatMul (x, w) y = Relu (m)", "float[3, 16] x", "float[3, 8] y", w=(16, 8))
    model.write_bytes(dense.SerializeToString())
    artefact = tensoropt.optimize(model, tune="off").save(folder / "artefact")
    loaded = tensoropt.load(artefact)
    return Subject(artefact, [model], loaded.inputs, loaded.outputs, random_feeds(loaded.inputs, 0))


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What is timed together; a call of each takes as many milliseconds as its name has letters."""
    calls: list[list[str]] = []

    def alternate(runs: Mapping[str, Callable[[], object]], blocks: int) -> dict[str, Series]:
        calls.append(list(runs))
        for run in runs.values():
            run()
        return {name: Series((float(len(name)),) * blocks, 1) for name in runs}

    monkeypatch.setattr(comparison, "alternate", alternate)
    monkeypatch.setattr(comparison, "whole_cores", lambda threads: 2.0)
    return calls


def test_peers_take_turns_with_ours_and_the_control(subject: Subject, timed: list[list[str]]) -> None:
    said: list[str] = []
    peers = [Absent(), Wrong(), OnnxRuntime(), Crashing(), Right()]
    found = compare(subject, peers, 1, 5, lambda stage, share, detail: None, said.append)
    assert timed == [["tensoropt", "onnxruntime", "right", "control"]]
    assert list(found["engines"]) == ["tensoropt", "onnxruntime", "right"]
    assert found["reference"] == "onnxruntime"
    assert found["engines"]["right"]["ratio"] == len("tensoropt") / len("right")
    assert found["engines"]["right"]["blocks_ms"] == [5.0] * 5
    assert found["engines"]["right"]["quartiles_ms"] == [5.0, 5.0]
    assert found["engines"]["tensoropt"]["peak_mib"] > 0
    assert found["engines"]["tensoropt"]["max_rel_error"] < 1e-5
    assert found["control"]["ratio"] == len("tensoropt") / len("control")
    assert found["cores"] == 2.0
    assert found["skipped"].keys() == {"absent", "crashing", "wrong"}
    assert "not installed" in found["skipped"]["absent"]
    assert "SIGSEGV" in found["skipped"]["crashing"]
    assert "differs from that of onnxruntime" in found["skipped"]["wrong"]
    assert sorted(said) == sorted(f"{name} is skipped: {reason}" for name, reason in found["skipped"].items())


def test_without_peers_ours_is_timed_against_itself(subject: Subject, timed: list[list[str]]) -> None:
    found = compare(subject, [], 1, 5, lambda stage, share, detail: None)
    assert timed == [["tensoropt", "control"]]
    assert found["reference"] is None
    assert found["skipped"] == {}


def test_a_wrong_result_of_ours_is_an_error(subject: Subject, timed: list[list[str]]) -> None:
    with pytest.raises(CheckError, match=r"the output .* differs from that of wrong by"):
        compare(subject, [Wrong()], 1, 5, lambda stage, share, detail: None)
    assert timed == []


def test_a_peer_runs_the_fastest_of_the_files_that_it_takes(
    subject: Subject, timed: list[list[str]], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(subject.models[0].read_bytes())
    several = Subject(subject.artefact, [broken, copy, *subject.models], subject.inputs, subject.outputs, subject.feeds)
    found = compare(several, [OnnxRuntime()], 1, 5, lambda stage, share, detail: None)
    assert timed == [["0", "1"], ["tensoropt", "onnxruntime", "control"]]
    assert found["engines"]["onnxruntime"]["model"] == str(copy)


def test_processors_that_a_peer_takes_from_the_process_are_given_back(
    subject: Subject, timed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[set[int]] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr("os.sched_setaffinity", lambda process, usable: given.append(usable), raising=False)
    compare(subject, [OnnxRuntime()], 1, 5, lambda stage, share, detail: None)
    assert given == [{0, 1}]
