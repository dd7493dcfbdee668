"""A server that cannot serve says why in one sentence."""

from __future__ import annotations

import pytest

from codegen.tune.remote.server import main
from codegen.tune.remote.tracker import Tracker


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tracker", "box"], "--tracker is HOST:PORT"),
        (["--threads", "0"], "--threads is a positive number, not 0"),
        (["--target", "cdua"], "the target 'cdua' is not known"),
        (["--host", "192.0.2.1"], "nothing can listen at 192.0.2.1:9091"),
        (["--host", "127.0.0.1", "--port", "70000"], "nothing can listen at 127.0.0.1:70000"),
    ],
)
def test_wrong_usage_is_told(
    options: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "codegen.tune.remote.service.register", lambda *arguments: None
    )  # for sessions, of which there are none
    monkeypatch.setattr(Tracker, "own_host", lambda tracker: "127.0.0.1")
    assert main(["--tracker", "127.0.0.1:1", "--key", "k", *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
