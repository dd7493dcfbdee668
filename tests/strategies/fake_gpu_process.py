"""The measuring process of a machine that has a GPU as ``fake_gpu_machine`` makes one."""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """The real process on another machine."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # as the real one does
    from codegen.tune import device_process
    from tests.strategies.fake_gpu_machine import MeasuredDriver, become_gpu_machine, replaced

    become_gpu_machine(replaced, MeasuredDriver(), json.loads(os.environ["FAKE_LIBRARIES"]))
    device_process.main()


if __name__ == "__main__":
    main()
