"""The tuning database: what is written is there whoever else writes, and whatever becomes of the file."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import pytest

from codegen.tune.database import FILE, Database
from codegen.tune.files import SCHEMA
from codegen.tune.rows import Key
from tensoropt.errors import UsageError

ROOT = Path(__file__).resolve().parents[3]
ROWS = 300


def key(number: int, **parts: str) -> Key:
    """A key of one of several kernels."""
    return Key(
        **{
            "kernel": f"kernel {number}",
            "target": "cpu with features",
            "versions": "TVM",
            "generator": "g",
            "device": "d",
            **parts,
        }
    )


def entry(number: int) -> dict[str, float]:
    """What was measured of it."""
    return {"seconds": number * 1e-6, "workspace": 64.0}


def fill(path: Path, numbers: range = range(ROWS)) -> None:
    """Writes an entry for each number."""
    with Database(path) as database:
        for number in numbers:
            database.write(key(number), {"default": entry(number)})


def held(database: Database, numbers: range = range(ROWS)) -> list[int]:
    """The numbers whose entry is there and right."""
    found = {number: database.read(key(number)).get("default") for number in numbers}
    assert all(value in (None, entry(number)) for number, value in found.items())
    return [number for number, value in found.items() if value is not None]


def test_what_is_written_is_read_back_under_the_same_key_only(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "t.sqlite"
    with Database(path) as database:
        database.write(key(1), {"default": entry(1), "second": entry(2)})
        database.write(key(1), {"second": entry(3)})
        assert database.read(key(1)) == {"default": entry(1), "second": entry(3)}
    with Database(path) as database:
        assert database.read(key(1)) == {"default": entry(1), "second": entry(3)}
        for part in ("kernel", "target", "versions", "generator", "device"):
            assert database.read(key(1, **{part: "another"})) == {}
        assert database.size()[0] == 2
        assert database.warnings == []


def test_the_users_own_database_is_in_the_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSOROPT_CACHE_DIR", str(tmp_path))
    with Database() as database:
        database.write(key(1), {"default": entry(1)})
    assert (tmp_path / FILE).is_file()


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_database_is_moved_aside_and_what_can_be_read_is_kept(share: float, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.sqlite", tmp_path / "t.sqlite"
    fill(whole)
    with Database(whole) as database:
        database.export_to(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with Database(path) as database:
        kept = held(database)
        database.write(key(ROWS), {"default": entry(ROWS)})
        assert held(database, range(ROWS, ROWS + 1)) == [ROWS]
        aside = path.with_name(f"{path.name}.damaged")
        if share == 0.0:
            assert not database.warnings, "an empty file is a new database"
        else:
            assert len(database.warnings) == 1
            assert "damaged" in database.warnings[0]
            assert aside.stat().st_size == int(len(content) * share)
    if share >= 0.5:
        assert len(kept) > share * ROWS / 2
    with Database(path) as again:
        assert held(again) == kept
        assert again.warnings == []


def test_garbage_in_the_middle_costs_the_rows_that_it_hits(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.sqlite", tmp_path / "t.sqlite"
    fill(whole)
    with Database(whole) as database:
        database.export_to(path)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 6000] = b"\x99" * 6000
    path.write_bytes(content)
    with Database(path) as database:
        assert len(held(database)) > ROWS / 2


def test_a_damaged_entry_counts_as_absent(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    fill(path, range(3))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE measurements SET entry = replace(entry, '64.0', '65.0') WHERE kernel = 'kernel 1'")
        connection.execute("UPDATE measurements SET entry = x'ff00' WHERE kernel = 'kernel 2'")
    with Database(path) as database:
        assert held(database) == [0]
        database.write(key(1), {"default": entry(1)})
        assert held(database) == [0, 1]


@pytest.mark.parametrize("content", [b"my notes, kept for years", b"SQLite format 2\0" + b"x" * 100])
def test_another_file_is_refused_and_left_untouched(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"notes\.txt is not a tuning database"):
        Database(path)
    assert path.read_bytes() == content
    assert [found.name for found in tmp_path.iterdir()] == ["notes.txt"]


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE bookmarks (address)")
    before = path.read_bytes()
    with pytest.raises(UsageError, match="of something else"):
        Database(path)
    with Database(tmp_path / "t.sqlite") as database, pytest.raises(UsageError, match="of something else"):
        database.import_from(path)
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    fill(path, range(2))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(UsageError, match=f"version {SCHEMA + 1}"):
        Database(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        Database(tmp_path)


def test_databases_are_exported_imported_and_merged(tmp_path: Path) -> None:
    """The newer of two rows stays, whichever way they are merged."""
    first, second, file = tmp_path / "1.sqlite", tmp_path / "2.sqlite", tmp_path / "shared.sqlite"
    with Database(first) as one, Database(second) as two:
        one.write(key(1), {"default": entry(10)})
        two.write(key(1), {"default": entry(20), "second": entry(21)})
        one.write(key(2), {"default": entry(30)})
        two.write(key(2), {"default": entry(40)})
        one.write(key(1), {"default": entry(50)})
        assert one.export_to(file) == 2
        assert two.import_from(file) == 2
        assert two.read(key(1)) == {"default": entry(50), "second": entry(21)}
        assert two.read(key(2)) == {"default": entry(40)}
        two.export_to(file)  # an existing tuning database is replaced
        assert one.import_from(file) == 3
        assert one.read(key(1)) == two.read(key(1))
        assert one.read(key(2)) == two.read(key(2))
    shutil.move(file, tmp_path / "elsewhere.sqlite")
    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite-" not in path.name) == [
        "1.sqlite",
        "2.sqlite",
        "elsewhere.sqlite",
    ]
    with Database(tmp_path / "elsewhere.sqlite") as alone:
        assert alone.size()[0] == 3


def test_what_cannot_be_exported_or_imported_is_named(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    path = tmp_path / "t.sqlite"
    with Database(path) as database:
        for wrong, words in (
            (notes, "notes.txt is not a tuning database"),
            (path, "itself"),
            (tmp_path / "no folder" / "x", "cannot be written there"),
        ):
            with pytest.raises(UsageError, match=words):
                database.export_to(wrong)
        for wrong in (notes, tmp_path / "missing"):
            with pytest.raises(UsageError, match=wrong.name):
                database.import_from(wrong)
    assert notes.read_text() == "mine"


@pytest.fixture
def unwritable() -> Generator[Path]:
    """A filled database in a folder that this process may read and not write: root, whom no mode stops, gives that up meanwhile."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    path = folder / "t.sqlite"
    fill(path, range(20))
    path.chmod(0o444)
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield path
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_an_unwritable_database_is_read_and_what_is_new_is_kept_for_the_run(unwritable: Path) -> None:
    before = unwritable.read_bytes()
    with Database(unwritable) as database:
        assert held(database, range(30)) == list(range(20))
        database.write(key(25), {"default": entry(25)})
        database.write(key(26), {"default": entry(26)})
        assert held(database, range(30)) == [*range(20), 25, 26]
        assert len(database.warnings) == 1
        assert "cannot be written" in database.warnings[0]
        assert database.size()[0] == 22
        with pytest.raises(UsageError, match="cannot be written"):
            database.clear()
    with Database(unwritable) as again:
        assert held(again, range(30)) == list(range(20))
    assert unwritable.read_bytes() == before


def test_a_folder_that_cannot_be_written_keeps_nothing_and_fails_nothing(unwritable: Path) -> None:
    with Database(unwritable.with_name("new.sqlite")) as database:
        database.write(key(1), {"default": entry(1)})
        assert held(database, range(3)) == [1]
        assert len(database.warnings) == 1


def test_a_full_disk_costs_nothing_that_was_written_before(tmp_path: Path) -> None:
    """The size of the file is limited, as a full disk would limit it."""
    path = tmp_path / "t.sqlite"
    with Database(path) as database:
        database.write(key(0), {"default": entry(0)})
        assert database._connection is not None
        pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
        database._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        for number in range(1, ROWS):
            database.write(key(number), {"default": entry(number)})
        assert held(database) == list(range(ROWS))
        assert len(database.warnings) == 1
        assert "full" in database.warnings[0]
        database._connection.execute("PRAGMA max_page_count = 100000")
        database.write(key(ROWS), {"default": entry(ROWS)})  # writes what is due too
    with Database(path) as again:
        assert held(again, range(ROWS + 1)) == list(range(ROWS + 1))


WRITER = """
import sys
from pathlib import Path
from codegen.tune.database import Database
from codegen.tune.rows import Key
path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Database(path) as database:
    for number in range(first, last):
        key = Key(f"kernel {number}", "cpu with features", "TVM", "g", "d")
        database.write(key, {"default": {"seconds": number * 1e-6, "workspace": 64.0}})
        print(number, flush=True)
    assert not database.warnings, database.warnings
"""


def writer(path: Path, first: int, last: int) -> subprocess.Popen[str]:
    """A process that writes entries and says of each that it is written."""
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(first), str(last)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    """All of them also make the file, which does not exist yet."""
    path = tmp_path / "t.sqlite"
    processes = [writer(path, 100 * number, 100 * number + 100) for number in range(3)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    with Database(path) as database:
        assert held(database) == list(range(ROWS))


def test_a_killed_writer_leaves_what_it_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    process = writer(path, 0, 100_000)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(150)]
    process.kill()
    reported += [int(line) for line in process.stdout if line.endswith("\n")]
    process.wait()
    process.stdout.close()
    with Database(path) as database:
        assert not database.warnings
        assert set(reported) <= set(held(database, range(reported[-1] + 2)))


def test_two_processes_meet_a_damaged_database(tmp_path: Path) -> None:
    """One of them moves it aside, and both write to the next."""
    path = tmp_path / "t.sqlite"
    fill(path)
    with Database(path) as database:
        database.export_to(tmp_path / "x.sqlite")
    os.replace(tmp_path / "x.sqlite", path)
    os.truncate(path, path.stat().st_size // 2)
    script = WRITER.replace("assert not database.warnings, database.warnings", "")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(first), str(first + 50)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        for first in (0, 50)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert len(list(tmp_path.glob("*.damaged*"))) == 1
    with Database(path) as database:
        assert set(held(database)) >= set(range(100))
        assert database.warnings == []
