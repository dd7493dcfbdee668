"""The server of a device, with another measuring process where MEASURING names one: tests kill it."""

from __future__ import annotations

import os
import sys

sys.modules["torch"] = None  # type: ignore[assignment]

from codegen.tune.remote.server import main  # noqa: E402

if __name__ == "__main__":
    os._exit(main(sys.argv[1:], os.environ.get("MEASURING")))
