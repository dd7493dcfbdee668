"""The tuning database: one SQLite file that several processes share and that a killed one leaves whole.

Every finished measurement is one transaction in a write-ahead log. A database that cannot be written is read, and what is new
is kept for the run; a damaged one is moved aside, and what can still be read of it starts the next.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Any

from codegen.tune import files
from codegen.tune.rows import COLUMNS, Key, Row
from tensoropt.disk_cache import cache_folder
from tensoropt.errors import UsageError

FILE = "tuning.sqlite"
"""The database of the user, in the cache folder."""

_UPSERT = f"""
INSERT INTO measurements ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
ON CONFLICT (place, variant) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])}
WHERE excluded.written >= measurements.written"""
_LATEST = f"SELECT {', '.join(COLUMNS)} FROM measurements ORDER BY written DESC LIMIT ?"
_LOOK_UP = f"SELECT {', '.join(COLUMNS)} FROM measurements WHERE place = ?"


class Database:
    """Measurements by key and variant. ``path`` is the user's own database unless it is given.

    UsageError for a given file that is no tuning database, or of a newer version. Whatever else is wrong with the file is told
    in ``warnings``, a sentence each, and costs at most what is kept there. May be used by several threads.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.chosen = path is not None
        self.path = cache_folder() / FILE if path is None else Path(path)
        self.warnings: list[str] = []
        self._lock = RLock()
        self._kept: dict[tuple[str, str], Row] = {}
        """What could not be written."""
        self._connection: sqlite3.Connection | None = None
        self._writable = False
        self._open()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the use of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def read(self, key: Key) -> dict[str, dict[str, Any]]:
        """The entries of a key by variant; damaged ones are left out."""
        place = key.place
        with self._lock:
            found = {row.variant: row for row in self._rows_of(place)}
            found |= {variant: row for (where, variant), row in self._kept.items() if where == place}
            return {variant: row.entry for variant, row in found.items()}

    def write(self, key: Key, entries: Mapping[str, dict[str, Any]]) -> None:
        """Stores entries of a key by variant, all or none of them; those that were there before are replaced."""
        self._store([Row.now(key, variant, entry) for variant, entry in entries.items()])

    def latest(self, most: int) -> list[Row]:
        """The rows that were written last, of all keys; none where the file cannot be read."""
        with self._lock:
            found = list(self._kept.values())
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    found += [row for values in self._connection.execute(_LATEST, (most,)) if (row := Row.of(values))]
        return sorted(found, key=lambda row: -row.written)[:most]

    def size(self) -> tuple[int, int]:
        """Rows, and bytes of the file with its log."""
        with self._lock:
            count = len(self._kept)
            if self._connection is not None:
                count += self._connection.execute("SELECT count(*) FROM measurements").fetchone()[0]
        beside = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        return count, sum(path.stat().st_size for path in beside if path.exists())

    def clear(self) -> None:
        """Removes all rows. UsageError where the file cannot be written."""
        with self._lock:
            self._kept.clear()
            if self._connection is None or not self._writable:
                raise UsageError(f"{self.path}: the tuning database cannot be written, so it is not emptied")
            self._connection.execute("DELETE FROM measurements")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def export_to(self, path: str | os.PathLike[str]) -> int:
        """Writes all rows to one file, complete or not at all, and returns how many.

        UsageError for a place that cannot be written or that holds something else than a tuning database.
        """
        target = Path(path)
        if target.exists() and self.path.exists() and target.samefile(self.path):
            raise UsageError(f"{target} is the tuning database itself; export it to another file")
        if target.exists():
            _require_database(target)
        try:
            with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as folder:
                partial = Path(folder) / FILE
                with self._lock:
                    if self._connection is not None:
                        self._connection.execute("VACUUM INTO ?", (str(partial),))
                with Database(partial) as copy:
                    copy._store(list(self._kept.values()))
                    count, _ = copy.size()
                    copy._as_one_file()
                os.replace(partial, target)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"{target}: the tuning database cannot be written there ({error})") from error
        return count

    def import_from(self, path: str | os.PathLike[str]) -> int:
        """Takes the rows of another tuning database, the newer of two where both have one; returns how many the file has.

        UsageError for a file that is none. Of a damaged one, what can be read is taken, with a warning.
        """
        source = Path(path)
        _require_database(source)
        try:
            connection = files.open_readable(source)
            if connection is None:
                raise UsageError(f"{source}: the file cannot be read")
            try:
                found = list(files.rows(connection))
            finally:
                connection.close()
        except files.Damaged as damage:
            found = files.salvaged(source)
            self.warnings.append(f"{source} is damaged ({damage}); {len(found)} measurements could be read")
        self._store(found)
        return len(found)

    def _rows_of(self, place: str) -> list[Row]:
        if self._connection is None:
            return []
        try:
            values = self._connection.execute(_LOOK_UP, (place,)).fetchall()
        except (sqlite3.Error, ValueError) as error:
            if isinstance(error, sqlite3.Error) and files.is_damage(error):
                self._replace_damaged(str(error))
            return []
        return [row for found in values if (row := Row.of(found)) is not None]

    def _store(self, rows: Iterable[Row]) -> None:
        """Writes rows, and what could not be written before; keeps them here where that fails."""
        with self._lock:
            for row in rows:
                self._kept[row.key.place, row.variant] = row
            if self._connection is None or not self._writable or not self._kept:
                return
            try:
                self._write(self._kept.values())
            except sqlite3.Error as error:
                if not files.is_damage(error):
                    self._warn(f"it cannot be written ({error}), so what is measured is kept for this run only")
                    return
                self._replace_damaged(str(error))
                if self._connection is None:
                    return
                self._write(self._kept.values())
            self._kept.clear()

    def _write(self, rows: Iterable[Row]) -> None:
        connection = self._connection
        assert connection is not None
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_UPSERT, [row.values() for row in rows])
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _open(self) -> None:
        try:
            if self.path.is_dir():
                raise UsageError(f"{self.path} is a folder; a tuning database is a file")
            if self.path.exists() and not files.is_sqlite(self.path):
                if self.chosen:
                    raise UsageError(f"{self.path} is not a tuning database; it is left as it is")
                raise files.Damaged("it is no SQLite database")
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection, self._writable = files.open_writable(self.path), True
        except files.Damaged as damage:
            self._replace_damaged(str(damage))
        except (OSError, sqlite3.Error) as error:
            self._open_for_reading(getattr(error, "strerror", None) or str(error))

    def _open_for_reading(self, why: str) -> None:
        self._writable = False
        note = ""
        try:
            self._connection = files.open_readable(self.path) if self.path.exists() else None
        except files.Damaged as damage:
            note = f" and is damaged ({damage})"
            self._keep(files.salvaged(self.path))
        except OSError:
            self._connection = None
        self._warn(f"it cannot be written ({why}){note}, so what is measured is kept for this run only")

    def _replace_damaged(self, why: str) -> None:
        """Moves the file aside and starts another with what can still be read, unless another process was faster."""
        self.close()
        try:
            with files.alone(self.path.parent):
                try:
                    if files.is_sqlite(self.path):
                        self._connection, self._writable = files.open_writable(self.path), True
                        return
                except (files.Damaged, FileNotFoundError):
                    pass
                aside = files.move_aside(self.path)
                found = files.salvaged(aside)
                self._connection, self._writable = files.open_writable(self.path), True
                if found:
                    self._write(found)
        except (OSError, sqlite3.Error, files.Damaged) as error:
            self._open_for_reading(str(error))
            return
        self._warn(f"it was damaged ({why}) and is now {aside.name}; {len(found)} of its measurements could be kept")

    def _keep(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._kept[row.key.place, row.variant] = row

    def _as_one_file(self) -> None:
        """Gives up the write-ahead log, so that the file holds everything."""
        if self._connection is not None:
            self._connection.execute("PRAGMA journal_mode = delete")

    def _warn(self, text: str) -> None:
        sentence = f"the tuning database {self.path}: {text}"
        if sentence not in self.warnings:
            self.warnings.append(sentence)


def _require_database(path: Path) -> None:
    """UsageError for what is no file, or a file of another kind."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        if not files.is_sqlite(path):
            raise UsageError(f"{path} is not a tuning database; it is left as it is")
    except OSError as error:
        raise UsageError(f"{path}: the file cannot be read ({error.strerror})") from error
