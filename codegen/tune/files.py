"""The file of a tuning database: made, opened for writing or only for reading, judged, and read where it is damaged."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from codegen.tune.rows import COLUMNS, Row
from tensoropt.errors import UsageError

SCHEMA = 1
"""Grows with every change that older versions cannot read."""
BUSY_SECONDS = 20.0
"""How long a process waits for another one's transaction, which takes milliseconds."""

_APPLICATION = 0x74736F74
"""Tells a tuning database from other SQLite files."""
_MAGIC = b"SQLite format 3\0"
_CREATE = f"""
CREATE TABLE measurements (
    number INTEGER PRIMARY KEY, {", ".join(f"{name} NOT NULL" for name in COLUMNS)}, UNIQUE (place, variant)
)"""
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM measurements"
_LEAST_ROW_BYTES = 200
"""Rows are never shorter, so a file's size bounds their number."""


class Damaged(Exception):
    """The file was a database and cannot be read as one."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error says that the file's content is wrong, and not that it is busy or cannot be written."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or code == sqlite3.SQLITE_IOERR_SHORT_READ


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process held the database for too long."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_sqlite(path: Path) -> bool:
    """Whether a file is a SQLite database or the beginning of one; an empty file is."""
    with path.open("rb") as stream:
        head = stream.read(len(_MAGIC))
    return _MAGIC.startswith(head)


def open_writable(path: Path) -> sqlite3.Connection:
    """The database, made where there is none. Damaged for one that cannot be read, UsageError for one that is not to be read.

    sqlite3.OperationalError where it cannot be written.
    """
    connection = _connect(path, "mode=rwc")
    try:
        connection.execute("BEGIN IMMEDIATE")  # fails at once where nothing can be written
        try:
            if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                connection.execute(_CREATE)
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        require_known(connection, path)
        _require_sound(connection)
        _write_ahead(connection)
    except sqlite3.Error as error:
        connection.close()
        if is_damage(error):
            raise Damaged(str(error)) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def open_readable(path: Path) -> sqlite3.Connection | None:
    """The database for reading only, also from a folder that cannot be written; None where that does not work.

    Damaged and UsageError as ``open_writable``.
    """
    for mode in (
        "mode=ro",
        "mode=ro&immutable=1",
    ):  # a write-ahead log wants files beside it, unless nothing can change
        connection = None
        try:
            connection = _connect(path, mode)
            require_known(connection, path)
            _require_sound(connection)
            return connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            if is_damage(error):
                raise Damaged(str(error)) from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
    return None


def require_known(connection: sqlite3.Connection, path: Path) -> None:
    """UsageError for a database of something else, or of a version that is newer than this."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application != _APPLICATION or "measurements" not in tables:
        if not tables:
            raise Damaged("its table is missing")
        raise UsageError(f"{path} is a SQLite database of something else; name a tuning database or a new file")
    if version > SCHEMA:
        raise UsageError(
            f"{path} is a tuning database of version {version}, this tensoropt knows version {SCHEMA}; "
            "use a newer tensoropt or another file with --db"
        )


def rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """All rows that hold what was written."""
    for values in connection.execute(_SELECT):
        row = Row.of(values)
        if row is not None:
            yield row


def salvaged(path: Path) -> list[Row]:
    """The rows of a damaged database that can still be read, looked up one by one: one lost page hides only its own."""
    found: list[Row] = []
    for mode in ("mode=ro", "mode=ro&immutable=1"):
        try:
            with closing(_connect(path, mode)) as connection:
                connection.execute("PRAGMA writable_schema = ON")  # takes a file that is shorter than it says
                for number in range(1, path.stat().st_size // _LEAST_ROW_BYTES + 2):
                    row = _looked_up(connection, number)
                    if row is not None:
                        found.append(row)
        except (sqlite3.Error, OSError):
            continue
        if found:
            break
    return found


def _looked_up(connection: sqlite3.Connection, number: int) -> Row | None:
    try:
        values = connection.execute(f"{_SELECT} WHERE number = ?", (number,)).fetchone()
    except (sqlite3.Error, ValueError):  # text that is no longer text
        return None
    return None if values is None else Row.of(values)


def move_aside(path: Path) -> Path:
    """Renames a damaged database, with its log, to a name beside it that is free, and returns that."""
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    for suffix in ("-wal", "-shm"):
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            os.replace(beside, aside.with_name(aside.name + suffix))
    os.replace(path, aside)
    return aside


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from repairing a database of the folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection without implicit transactions, for one thread at a time."""
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?{mode}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _require_sound(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise Damaged(str(verdict).splitlines()[-1])


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers and a writer do not wait for one another. Changing to it wants the file alone, and does not wait for that itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            if connection.execute("PRAGMA journal_mode = wal").fetchone()[0] != "wal":
                return  # a file system that cannot do it; a rollback journal is as safe
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous = NORMAL")
