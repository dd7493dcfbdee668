"""``cache``: what is kept on disk is counted and removed, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tensoropt.cli import main
from tensoropt.disk_cache import KINDS, entry_path, read_entry, write_entry


def test_entries_are_counted_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(tmp_path)
    for number, kind in enumerate(KINDS):
        for key in range(number + 1):
            write_entry(kind, f"key {key}", {"value": key})
    mine = [tmp_path / "notes.json", entry_path("derived", "key 0").with_name("notes.txt")]
    for path in mine:
        path.write_text("mine")
    assert main(["cache", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {kind: entry["entries"] for kind, entry in found["kinds"].items()} == {"measured": 1, "derived": 2}
    assert all(entry["bytes"] > 0 for entry in found["kinds"].values())
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out.count("0 entries") == 2
    assert read_entry("derived", "key 0") is None
    assert all(path.exists() for path in mine)
