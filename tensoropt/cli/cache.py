"""``tensoropt cache``: what is kept on disk between runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tensoropt.cli.options import Db, Json
from tensoropt.cli.output import print_json


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove everything that is kept.")] = False,
    export: Annotated[
        str | None, typer.Option("--export", metavar="FILE", help="Write the tuning database to one file.")
    ] = None,
    import_from: Annotated[
        str | None, typer.Option("--import", metavar="FILE", help="Take in such a file; the newer of two times stays.")
    ] = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Show where measured times and derivations are kept, and how many; remove them, or pass on the times."""
    from tensoropt import api

    found = api.cache(clear, export=export, import_from=import_from, db=db)
    if as_json:
        print_json(found)
        return
    print(found["folder"] if db is None else db)
    for kind in found["kinds"].values():
        print(f"    {kind['content']}: {kind['entries']} entries, {kind['bytes'] / 2**20:.1f} MiB")
    for done, file in (("imported", import_from), ("exported", export)):
        if done in found:
            print(f"    {found[done]} measurements {done}: {file}")
    for warning in found["warnings"]:
        print(f"tensoropt: {warning}", file=sys.stderr)
