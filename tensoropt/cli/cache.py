"""``tensoropt cache``: what is kept on disk between runs."""

from __future__ import annotations

from typing import Annotated

import typer

from tensoropt.cli.options import Json
from tensoropt.cli.output import print_json


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything that is kept.")] = False,
    as_json: Json = False,
) -> None:
    """Show where measured times and derivations are kept, and how many; or remove them."""
    from tensoropt import api

    found = api.cache(clear)
    if as_json:
        print_json(found)
        return
    print(found["folder"])
    for kind in found["kinds"].values():
        print(f"    {kind['content']}: {kind['entries']} entries, {kind['bytes'] / 2**20:.1f} MiB")
