"""An interrupt leaves at once, says so, and leaves nothing half-written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.models import BUILDERS
from tensoropt.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("signal_after", [2.0, 5.0])  # on a busy machine Python itself takes most of a second to start
def test_an_interrupt_leaves_nothing_behind(signal_after: float, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "resnet18.onnx").write_bytes(BUILDERS["resnet18"](1).SerializeToString())
    process = subprocess.Popen(
        [sys.executable, "-m", "tensoropt", "optimize", "resnet18.onnx", "-o", "out", "--tune", "off"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TENSOROPT_CACHE_DIR": str(tmp_path / "cache")},
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(signal_after)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert [path.name for path in folder.iterdir()] == ["resnet18.onnx"]


def test_an_interrupt_while_the_command_line_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loading:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "tensoropt.cli.app", Loading())
    assert main(["targets"]) == 130
    assert capsys.readouterr().err == "tensoropt: interrupted\n"


def test_an_interrupt_within_generated_code_keeps_its_status(tmp_path: Path) -> None:
    """A dataclass being made is an ``exec`` of text, after which ``python -m`` would end by the signal itself."""
    (tmp_path / "interrupted.py").write_text(
        """
import sys
class Loading:
    def __getattr__(self, name):
        exec("raise KeyboardInterrupt")
sys.modules["tensoropt.cli.app"] = Loading()
from tensoropt.cli import main
sys.exit(main(["targets"]))
"""
    )
    ended = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (130, "tensoropt: interrupted\n")
