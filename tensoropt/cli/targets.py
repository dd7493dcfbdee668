"""``tensoropt targets``: what this installation compiles for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensoropt.cli.options import Json
from tensoropt.cli.output import print_json


def targets(as_json: Json = False) -> None:
    """List the targets."""
    from tensoropt import api

    found = api.targets()
    if as_json:
        print_json({"targets": found})
        return
    for target in found:
        print(f"{target['name']:<8} {_line(target)}")


def _line(target: Mapping[str, Any]) -> str:
    """What a target is, for people."""
    if target["kind"] == "cpu":
        return f"{target['mcpu']}, {target['threads']} threads, {target['vector_bits']}-bit vectors (this machine)"
    lacks = [name for name, has in (("f16", target["half"]), ("f64", target["double"])) if not has]
    without = f", without arithmetic of {' and '.join(lacks)}" if lacks else ""
    return f"{target['device']}, {target['multiprocessors']} units{without} (this machine)"
