"""``tensoropt targets``: what this installation compiles for."""

from __future__ import annotations

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
        print(
            f"{target['name']:<8} {target['mcpu']}, {target['threads']} threads, {target['vector_bits']}-bit vectors (this machine)"
        )
