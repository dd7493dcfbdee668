"""A model is compared as it says, in a process of its own, with peers on the formulation that suits them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import onnx
import pytest

from examples.comparison import Settings, compare, family, isolated, limited

SETTINGS = Settings(("onnxruntime", "torch"), threads=1, blocks=5, tune="off")


def test_a_model_goes_to_bench_with_all_of_its_formulations(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def bench(model: Path, **options: Any) -> dict[str, Any]:
        asked.update(options, batch=onnx.load(model).graph.input[0].type.tensor_type.shape.dim[0].dim_value)
        engines = {"tensoropt": {"model": "artefact"}, "onnxruntime": {"model": str(options["peer_models"][-1])}}
        return {"engines": engines, "cores": 2.0}

    monkeypatch.setattr("tensoropt.api.bench", bench)
    found = compare("fsrcnn", 3, SETTINGS)
    assert (found["model"], found["batch"], found["cores"]) == ("fsrcnn", 3, 2.0)
    assert found["engines"]["onnxruntime"]["formulation"] == found["engines"]["tensoropt"]["formulation"] == "fsrcnn"
    assert {name: asked[name] for name in ("batch", "against", "threads", "blocks", "tune")} == {
        "batch": 3,
        "against": SETTINGS.against,
        "threads": 1,
        "blocks": 5,
        "tune": "off",
    }
    found = compare("longformer_gathered", 1, SETTINGS)
    assert [path.stem for path in asked["peer_models"]] == ["longformer_gathered", "longformer_chunked"]
    assert found["engines"]["tensoropt"]["formulation"] == "longformer_gathered"
    assert found["engines"]["onnxruntime"]["formulation"] == "longformer_chunked"


def test_longformer_has_two_formulations() -> None:
    both = ("longformer_gathered", "longformer_chunked")
    assert family("longformer_gathered") == family("longformer_chunked") == both
    assert family("gcn") == ("gcn",)


def fail(name: str, batch: int) -> int:
    raise ValueError(f"{name} at batch {batch}\nmore")


def test_a_failure_in_the_process_is_one_line() -> None:
    assert isolated(fail, "gcn", 2) == "ValueError: gcn at batch 2"


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"


def leave() -> None:
    os._exit(3)


def test_a_process_that_takes_too_long_is_ended() -> None:
    started = time.monotonic()
    assert limited(1, sleep, 600) == "took longer than 1 s"
    assert time.monotonic() - started < 60
    assert limited(60, sleep, 0) == "awake"
    assert limited(0, sleep, 0) == "there was no time left for it"
    assert limited(60, leave) == "the process died"
