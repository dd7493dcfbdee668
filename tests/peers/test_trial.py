"""A first run in a process of its own says whether an engine takes a model and what memory that needs, whatever the engine does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.models import BUILDERS
from tensoropt.peers.onnxruntime import OnnxRuntime
from tensoropt.peers.peer import Peer, Refused
from tensoropt.peers.trial import Memory, Trial, first_run
from tests.strategies.fake_peers import HELD_BYTES, Crashing, Hanging, Holding, Raising, Refusing


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trial") / "fsrcnn.onnx"
    path.write_bytes(BUILDERS["fsrcnn"](1).SerializeToString())
    return path


def tried(engine: Peer, model: Path, timeout: float = 60.0) -> Memory:
    feeds = {"small": np.zeros((1, 1, 32, 32), np.float32)}
    return first_run(Trial(engine, model, {"small": (1, 1, 32, 32)}, feeds, 1), timeout)


def test_memory_is_counted_from_where_the_engine_is_loaded(model: Path) -> None:
    plain, holding = tried(OnnxRuntime(), model), tried(Holding(), model)
    assert plain.resident <= plain.peak < HELD_BYTES
    assert HELD_BYTES <= holding.resident < 2 * HELD_BYTES <= holding.peak < 3 * HELD_BYTES


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (Refusing(), "it does not like the model"),
        (Raising(), r"raising does not run the model \(ValueError: a defect of many lines\)"),
        (Crashing(), "crashing did not get through a first run: its process died of SIGSEGV"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_goes_wrong_is_one_sentence(engine: Peer, reason: str, model: Path) -> None:
    with pytest.raises(Refused, match=reason):
        tried(engine, model)


def test_an_engine_that_hangs_is_given_up(model: Path) -> None:
    with pytest.raises(Refused, match="took longer than 3 seconds"):
        tried(Hanging(), model, timeout=3.0)
