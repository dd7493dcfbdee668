"""``tensoropt targets``: what this installation compiles for."""

from __future__ import annotations

import json

from tensoropt.cli.options import Json


def targets(as_json: Json = False) -> None:
    """List the targets."""
    from tensoropt import api

    found = api.targets()
    if as_json:
        print(json.dumps({"targets": found}))
        return
    for target in found:
        print(
            f"{target['name']:<8} {target['mcpu']}, {target['threads']} threads, {target['vector_bits']}-bit vectors (this machine)"
        )
