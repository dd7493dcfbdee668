"""``tensoropt rules``: the derivation rules."""

from __future__ import annotations

from tensoropt.cli.options import Json
from tensoropt.cli.output import print_json


def rules(as_json: Json = False) -> None:
    """List the derivation rules with their formulas."""
    from tensoropt import api

    found = api.rules()
    if as_json:
        print_json({"rules": found})
        return
    for rule in found:
        first, _, rest = rule["formula"].partition("\n")
        print(rule["name"])
        for line in (first, *rest.splitlines()):
            print(f"    {line.strip()}" if line.strip() else "")
