"""``python -m tensoropt``."""

import sys

from tensoropt.cli import main

if __name__ == "__main__":
    sys.exit(main())
