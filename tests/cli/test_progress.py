"""The time that is left follows from what was done; without a terminal there is no display."""

from __future__ import annotations

import pytest

from tensoropt.cli.progress import Remaining, progress_display


def test_the_time_left_is_that_of_the_stage() -> None:
    remaining = Remaining()
    assert remaining.of("import", 0.5, 100.0) == "", "at the first call nothing is known"
    assert remaining.of("tune", 0.0, 200.0) == ""
    assert remaining.of("tune", 0.01, 230.0) == "", "too little is done"
    assert remaining.of("tune", 0.25, 230.0) == "1:30 left"
    assert remaining.of("tune", 0.5, 230.4) == "0:30 left"
    assert remaining.of("tune", 1.0, 260.0) == ""
    assert remaining.of("compile", 0.5, 260.5) == "", "another stage starts anew"


def test_nothing_is_shown_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display() as progress:
        progress("tune", 0.5, "kernel")
    assert capsys.readouterr() == ("", "")
