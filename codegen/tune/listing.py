"""What ``tensoropt cache`` tells of the tuning database, and does to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from codegen.tune.database import FILE, Database
from tensoropt.disk_cache import cache_folder
from tensoropt.errors import UsageError

FileName = str | os.PathLike[str] | None


def listing(clear: bool, export: FileName, import_from: FileName, db: FileName) -> dict[str, Any]:
    """Folder, entries and bytes, after the import, the export and the clearing that were asked for, in this order.

    UsageError for a ``db`` that does not exist, unless something is imported to it.
    """
    path = Path(db) if db is not None else cache_folder() / FILE
    if db is not None and not path.exists() and import_from is None:
        raise UsageError(f"{db}: there is no such tuning database")
    measured = {"content": "times of kernels", "path": str(path), "entries": 0, "bytes": 0}
    result: dict[str, Any] = {"folder": str(cache_folder()), "kinds": {"measured": measured}, "warnings": []}
    if not path.exists() and import_from is None and export is None:
        return result
    with Database(db) as database:
        if import_from is not None:
            result["imported"] = database.import_from(import_from)
        if export is not None:
            result["exported"] = database.export_to(export)
        if clear:
            database.clear()
        measured["entries"], measured["bytes"] = database.size()
        result["warnings"] = list(database.warnings)
    return result
