"""``inspect``, ``rules``, ``targets`` and ``cache``: what there is, and how it came about."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tensoropt.errors import UsageError

if TYPE_CHECKING:
    from tensoropt.inspection import Inspection


def inspect(
    path: str,
    stage: str | None = None,
    diff: tuple[str, str] | None = None,
    node: str | None = None,
    why: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Inspection:
    """See ``tensoropt.inspection.inspect``; chains of derivations are replayed with the rules of this version."""
    from passes.derive.rules import RULES_BY_NAME
    from tensoropt import inspection

    return inspection.inspect(path, stage, diff, node, why, shapes, RULES_BY_NAME)


def rules() -> list[dict[str, str]]:
    """The derivation rules: name and formula of each."""
    from passes.derive.rules import RULES

    return [{"name": rule.name, "formula": (rule.__doc__ or "").strip()} for rule in RULES]


def targets() -> list[dict[str, Any]]:
    """The targets that this installation compiles for; ``here`` says whether this machine runs the result, ``why`` why it does not.

    ``opencl`` is among them where a device is there. A GPU's figures are those of ``codegen.targets.gpu.GpuTarget``; sizes are in
    bytes, rates are for a second.
    """
    from codegen.device.opencl import find_device, target_of
    from codegen.targets.cpu import host_target
    from codegen.targets.here import why_not_here
    from codegen.targets.named import NAMED

    found: list[dict[str, Any]] = [{**host_target().describe(), "name": "cpu", "here": True, "why": ""}]
    with contextlib.suppress(UsageError):
        device = target_of(find_device()).describe()
        found.append({**device, "name": "opencl", "device": device["name"], "here": True, "why": ""})
    why = why_not_here(NAMED.values())
    for name, target in NAMED.items():
        found.append({**target.describe(), "name": f"cuda:{name}", "here": not why[name], "why": why[name]})
    return found


def cache(
    clear: bool = False,
    *,
    export: str | os.PathLike[str] | None = None,
    import_from: str | os.PathLike[str] | None = None,
    db: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """What is kept on disk between runs: the folder, and entries and bytes of each kind; emptied first with ``clear``.

    ``export`` writes the tuning database to one file, ``import_from`` takes in such a file, the newer of two measurements where
    both have one. With ``db`` that tuning database is meant, and nothing else.
    """
    from codegen.tune.listing import listing
    from tensoropt import disk_cache

    result = listing(clear, export, import_from, db)
    for kind, content in disk_cache.KINDS.items() if db is None else ():
        if clear:
            disk_cache.clear(kind)
        found = disk_cache.entries(kind)
        size = sum(path.stat().st_size for path in found if path.exists())
        result["kinds"][kind] = {"content": content, "entries": len(found), "bytes": size}
    return result
