"""``cache``: what is kept on disk is counted, removed and passed on, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codegen.tune.database import FILE, Database
from codegen.tune.rows import Key
from tensoropt.cli import main
from tensoropt.disk_cache import entry_path, read_entry, write_entry

KEY = Key("kernel", "target", "versions", "generator", "device")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counts(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, int]:
    """Entries by kind."""
    assert main(["cache", "--json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    return {kind: entry["entries"] for kind, entry in found["kinds"].items()}


def test_entries_are_counted_and_removed(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(own_cache)
    assert not own_cache.exists(), "looking makes nothing"
    with Database() as database:
        database.write(KEY, {"a": {"seconds": 1.0}})
    for number in range(2):
        write_entry("derived", f"key {number}", {"value": number})
    loop = own_cache / "compiled" / "digest" / "solvers" / "moves.undo.py311.1.nbc"
    loop.parent.mkdir(parents=True)
    loop.write_text("machine code")
    mine = [own_cache / "notes.json", entry_path("derived", "key 0").with_name("notes.txt")]
    for path in mine:
        path.write_text("mine")
    assert counts(capsys) == {"measured": 1, "derived": 2, "compiled": 1, "cubins": 0}
    assert main(["cache", "--clear"]) == 0
    assert capsys.readouterr().out.count("0 entries") == 4
    assert read_entry("derived", "key 0") is None
    assert all(path.exists() for path in mine)


def test_times_are_passed_on(tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, other = tmp_path / "times.sqlite", tmp_path / "other.sqlite"
    with Database() as database:
        database.write(KEY, {"a": {"seconds": 1.0}, "b": {"seconds": 2.0}})
    assert main(["cache", "--export", str(file)]) == 0
    assert "2 measurements exported" in capsys.readouterr().out
    assert counts(capsys, "--db", str(other), "--import", str(file)) == {"measured": 2}
    assert counts(capsys, "--db", str(other)) == {"measured": 2}
    write_entry("derived", "key", {"value": 1})
    assert counts(capsys, "--db", str(other), "--clear") == {"measured": 0}
    assert counts(capsys) == {"measured": 2, "derived": 1, "compiled": 0, "cubins": 0}
    with Database(file) as exported:
        assert exported.read(KEY)["b"] == {"seconds": 2.0}


def test_wrong_files_are_usage_errors(tmp_path: Path, own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    for arguments in (
        ["--db", str(notes)],
        ["--import", str(notes)],
        ["--export", str(notes)],
        ["--db", str(tmp_path / "missing")],
        ["--import", str(tmp_path / "missing")],
        ["--export", str(tmp_path / "missing" / "file")],
    ):
        assert main(["cache", *arguments]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert arguments[1] in error
    assert notes.read_text() == "mine"


def test_a_damaged_database_is_told(own_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own_cache.mkdir()
    (own_cache / FILE).write_bytes(b"SQLite format 3\0 and then nothing that can be read")
    assert main(["cache"]) == 0
    assert "damaged" in capsys.readouterr().err
    assert main(["cache"]) == 0
    assert capsys.readouterr().err == ""
