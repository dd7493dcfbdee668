"""Measured times on disk: one SQLite file, written in transactions, so that killing the program loses only the work in flight."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tensoropt.cost import KernelCost

_CREATE = "CREATE TABLE IF NOT EXISTS timing (key TEXT PRIMARY KEY, costs TEXT NOT NULL) WITHOUT ROWID"


def cache_folder() -> Path:
    """Where measurements are kept: ``TENSOROPT_CACHE_DIR``, or the user's cache folder."""
    override = os.environ.get("TENSOROPT_CACHE_DIR")
    if override:
        return Path(override)
    from platformdirs import user_cache_path

    return Path(user_cache_path("tensoropt", appauthor=False))


class TimingStore:
    """Costs by measurement key. A file that cannot be used (read-only folder, damaged file) is done without."""

    def __init__(self, path: Path | None) -> None:
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._connection = sqlite3.connect(path, timeout=10, isolation_level=None)
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute(_CREATE)
            except (OSError, sqlite3.Error):
                self._connection = None

    @staticmethod
    def default() -> TimingStore:
        """The user's store."""
        return TimingStore(cache_folder() / "timings.sqlite3")

    def get(self, key: str) -> list[KernelCost] | None:
        """What was measured, or None."""
        if self._connection is None:
            return None
        try:
            row = self._connection.execute("SELECT costs FROM timing WHERE key = ?", (key,)).fetchone()
            return None if row is None else [KernelCost(**entry) for entry in json.loads(row[0])]
        except (sqlite3.Error, ValueError, TypeError):
            return None

    def put(self, key: str, costs: Sequence[KernelCost]) -> None:
        """Keep what was measured. Failures are not kept: the next run may have more time or memory."""
        if self._connection is None or any(cost.source == "failed" for cost in costs):
            return
        text = json.dumps([asdict(cost) for cost in costs])
        try:
            self._connection.execute("INSERT OR REPLACE INTO timing VALUES (?, ?)", (key, text))
        except sqlite3.Error:
            return
