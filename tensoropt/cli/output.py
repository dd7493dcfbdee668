"""What goes to standard output with ``--json``: one object that every JSON reader takes."""

from __future__ import annotations

import json
import math
from typing import Any


def print_json(document: Any) -> None:
    """One line of JSON. NaN and infinities, which JSON lacks, become null."""
    print(json.dumps(_finite(document), allow_nan=False))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _finite(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_finite(entry) for entry in value]
        case _:
            return value
