"""A session whose measuring process is on another machine."""

from __future__ import annotations

from collections.abc import Callable

from codegen.tune.remote.device import RemoteDevice
from codegen.tune.remote.fleet import Fleet
from codegen.tune.session import Session
from tensoropt.quiet import Quiet


class RemoteSession(Session):
    """Measures on whichever device of the fleet is free; nothing on this machine is paused for it."""

    def __init__(self, fleet: Fleet) -> None:
        self.device = RemoteDevice(fleet)
        super().__init__(fleet.target, self.device, Quiet())
        self._fleet = fleet

    def ready(self, wanted: Callable[[], bool]) -> bool:
        """See ``Session``."""
        return self.device.acquire(wanted) or not self._fleet.hopeless
