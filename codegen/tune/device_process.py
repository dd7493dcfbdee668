"""The program that measures on a device: as ``process``, but for what counts as its memory.

A driver reserves address space for all of the device's memory and the host's, so what is limited is what the process may write to.
"""

from __future__ import annotations

import resource
import sys


def main() -> None:
    """Serves requests; see ``measuring``."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # as ``process`` does
    from codegen.tune import measuring

    measuring.main(sys.argv[1:], resource.RLIMIT_DATA)


if __name__ == "__main__":
    main()
