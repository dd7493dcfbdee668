"""The JSON file of a run, written after each row, so that a run that is interrupted loses nothing and can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def save(path: Path | None, document: Mapping[str, Any]) -> None:
    """Writes the file whole or not at all; nothing where no file is wanted."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(document, indent=2) + "\n")
    os.replace(partial, path)


def rows_of(path: Path | None) -> dict[str, dict[str, Any]]:
    """The rows that a file holds already, failures apart; none where there is no file."""
    if path is None or not path.exists():
        return {}
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text())["rows"]
    return {label: row for label, row in rows.items() if "failed" not in row}
