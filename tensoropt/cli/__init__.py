"""The command line. Each verb has a file; it parses and calls the API function of the same name."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; the console script and ``python -m tensoropt`` share it."""
    try:
        from tensoropt.cli.app import run

        return run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:  # while the command line itself was being loaded, which takes a second on a busy machine
        print("tensoropt: interrupted", file=sys.stderr)
        return 130
