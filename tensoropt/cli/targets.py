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
        print(f"{target['name']:<16} {_line(target)}{' (this machine)' if target['here'] else ''}")
    for why in dict.fromkeys(target["why"] for target in found if target["why"]):
        print(f"What is not marked compiles here and runs elsewhere: {why}.")


def _line(target: Mapping[str, Any]) -> str:
    """What a target is, for people."""
    match target["kind"]:
        case "cpu":
            return f"{target['mcpu']}, {target['threads']} threads, {target['vector_bits']}-bit vectors"
        case "opencl":
            lacks = [name for name, has in (("f16", target["half"]), ("f64", target["double"])) if not has]
            without = f", without arithmetic of {' and '.join(lacks)}" if lacks else ""
            return f"{target['device']}, {target['multiprocessors']} units{without}"
        case _:
            ceilings = target["ceilings"]
            return (
                f"{target['arch']}, {target['multiprocessors']} multiprocessors, {ceilings['memory_bytes'] / 1e9:.0f} GB at "
                f"{ceilings['bytes_per_second'] / 1e9:.0f} GB/s, {ceilings['f32'] / 1e12:.1f} TFLOP/s f32, "
                f"{ceilings['f16_tensor'] / 1e12:.0f} f16"
            )
