"""What this process holds of memory."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes() -> int:
    """The most resident memory so far. The usual figure would count the parent's too, from which a process was started."""
    return _status("VmHWM")


def resident_bytes() -> int:
    """The resident memory."""
    return _status("VmRSS")


def forget_peak() -> int:
    """Forgets the peak so far and returns what is resident; where that is not possible, the peak so far."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return peak_bytes()
    return resident_bytes()


def _status(field: str) -> int:
    """Bytes of a line of the kernel's; elsewhere than on Linux, the most resident memory so far."""
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))
    except (OSError, StopIteration):
        scale = 1 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
