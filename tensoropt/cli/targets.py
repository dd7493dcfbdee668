"""``tensoropt targets``: what this installation compiles for."""

from __future__ import annotations

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
        print(_line(target))
    for why in dict.fromkeys(target["why"] for target in found if target["why"]):
        print(f"What is not marked compiles here and runs elsewhere: {why}.")


def _line(target: dict[str, Any]) -> str:
    mark = " (this machine)" if target["here"] else ""
    if target["kind"] == "cpu":
        return f"{target['name']:<16} {target['mcpu']}, {target['threads']} threads, {target['vector_bits']}-bit vectors{mark}"
    ceilings = target["ceilings"]
    return (
        f"{target['name']:<16} {target['arch']}, {target['multiprocessors']} multiprocessors, "
        f"{ceilings['memory_bytes'] / 1e9:.0f} GB at {ceilings['bytes_per_second'] / 1e9:.0f} GB/s, "
        f"{ceilings['f32'] / 1e12:.1f} TFLOP/s f32, {ceilings['f16_tensor'] / 1e12:.0f} f16{mark}"
    )
