"""The command line. Each verb has a file; it parses and calls the API function of the same name."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; the console script and ``python -m tensoropt`` share it."""
    try:
        from tensoropt.cli.app import run

        status = run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # while the command line itself was being loaded, which takes a second on a busy machine
        print("tensoropt: interrupted", file=sys.stderr)
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        # CPython remembers an interrupt that left an `exec` of text (dataclasses and named tuples are made by one) as
        # unhandled, even where it was caught further out, and then ends by the signal whatever status is returned.
        # The next `exec` of text forgets it.
        exec("pass")
    return status
