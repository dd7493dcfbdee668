"""``tensoropt targets`` and ``--target``: what is known, what runs here, and one sentence for what does not."""

from __future__ import annotations

import json

import pytest

import codegen.targets.here
from codegen.cuda.driver import Device, NoDevice
from codegen.targets.named import NAMED
from tensoropt import api
from tensoropt.cli import main
from tensoropt.errors import UsageError


def no_driver() -> object:
    raise NoDevice("no NVIDIA driver is installed")


class L40s:
    """A machine's GPU."""

    device = Device("NVIDIA L40S", (8, 9), 142, 48 << 30, 13000)


def test_the_list_says_what_runs_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(codegen.targets.here, "open_driver", L40s)
    assert main(["targets", "--json"]) == 0
    found = {target["name"]: target for target in json.loads(capsys.readouterr().out)["targets"]}
    assert found.keys() == {"cpu", *(f"cuda:{name}" for name in NAMED)}
    here = {name for name, target in found.items() if target["here"]}
    assert here == {"cpu", "cuda:l40s", "cuda:l4", "cuda:rtx4090", "cuda:a10", "cuda:a40", "cuda:rtxa6000", "cuda:rtx3090"} | {
        "cuda:a100", "cuda:a100-40gb", "cuda:a30"
    }  # fmt: skip
    assert found["cuda:h200"]["why"] == "the GPU here, NVIDIA L40S, has the architecture sm_89"
    assert found["cuda:h200"]["ceilings"]["memory_bytes"] == 141e9


def test_the_list_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(codegen.targets.here, "open_driver", no_driver)
    assert main(["targets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "(this machine)" in line] == [lines[0]]
    assert lines[-1].endswith("no NVIDIA driver is installed.")
    assert len(lines) == 2 + len(NAMED)


def test_an_unknown_target_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "absent.onnx", "--target", "cuda:h20"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [api.tune, api.bench])
def test_kernels_of_an_absent_gpu_cannot_be_timed(verb: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codegen.targets.here, "open_driver", no_driver)
    assert callable(verb)
    with pytest.raises(
        UsageError, match=r"cuda:h200 compiles here and cannot be timed here: no NVIDIA driver is installed"
    ):
        verb("absent.onnx", target="cuda:h200")
