"""The program that the measuring process runs."""

from __future__ import annotations

import sys


def main() -> None:
    """Serves requests; see ``measuring``."""
    # TVM's interface imports torch where it is installed, which takes longer than all the rest, for tensors that nobody passes here
    sys.modules["torch"] = None  # type: ignore[assignment]
    from codegen.tune import measuring

    measuring.main(sys.argv[1:])


if __name__ == "__main__":
    main()
