"""The devices under one key of a tracker, as one tuner uses them: taken when they are free, given back, lost, and found again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from codegen.targets.parsing import Target, with_tf32
from codegen.tune.remote.description import Description
from codegen.tune.remote.link import Link
from codegen.tune.remote.tracker import Address, Tracker, Unreachable
from tensoropt.errors import DeviceError, UsageError
from tensoropt.isolated import Lost

PATIENCE_SECONDS = 60.0
"""How long tuning waits for a device when it has none."""
_PRIORITY = 1
"""What TVM asks with where nothing else is said: tuners take turns."""
_TICK_SECONDS = 0.2
_PAUSE_SECONDS = 1.0
"""Before a tracker that is away, or a device that is not the one that is looked for, is asked again."""


class Fleet:
    """Devices that several threads ask for. All are like the first, which ``described`` finds; a warning tells of others.

    ``tf32``: kernels are made for the devices with it.
    """

    def __init__(self, address: Address, key: str, patience: float = PATIENCE_SECONDS, tf32: bool = False) -> None:
        self.key, self.in_use, self.most_in_use, self.lost = key, 0, 0, 0
        self.hopeless = False
        """Whether there has been no device for so long that nobody waits for one any more."""
        self.warnings: list[str] = []
        self._tracker, self._patience, self._tf32 = Tracker(address), patience, tf32
        self._asking, self._counting = Lock(), Lock()
        self._since, self._waiting = time.monotonic(), 0
        """Since when there has been no device for those who wait, and how many do."""
        self._spare: Link | None = None
        self._first: Description | None = None
        self._problem = ""
        """The last of a device that could not be used."""

    def described(self) -> Description:
        """What the devices are.

        UsageError where the tracker does not answer, has no device under the key, or where none can be used.
        """
        address = self._tracker.address
        try:
            servers = self._tracker.servers()
        except Unreachable as error:
            raise UsageError(str(error)) from error
        if not servers[self.key]:
            known = f", only under {', '.join(map(repr, sorted(servers)))}" if +servers else ""
            raise UsageError(
                f"the tracker at {address} has no device under the key {self.key!r}{known}; start "
                "`python -m codegen.tune.remote.server` on the device's machine"
            )
        link = self.acquire(lambda: not self.warnings)
        if self.warnings:
            raise UsageError(self.warnings[0])
        if link is None or self._first is None:
            why = self._problem or "others use them"
            raise UsageError(
                f"no device under the key {self.key!r} of the tracker at {address} could be had for {self._patience:g} "
                f"seconds, of {servers[self.key]} that it has: {why}"
            )
        self.release(link)
        return self._first

    @property
    def description(self) -> Description:
        """What the first device said."""
        return self._first or self.described()

    @property
    def target(self) -> Target:
        """What the devices are to code generation. UsageError where they have no tf32 and it is wanted."""
        found = self.description.parsed_target()
        return with_tf32(found) if self._tf32 else found

    @property
    def told(self) -> str:
        """How many devices are in use, and how often one was lost, in words."""
        return f"{self.in_use} device{'s' * (self.in_use != 1)}" + (f", {self.lost} lost" if self.lost else "")

    def _gives_up(self) -> bool:
        """Whether who waits has waited so long, and nobody has a device, that there will be none."""
        if not self.in_use and time.monotonic() - self._since > self._patience:
            self.hopeless = True
        return self.hopeless

    @property
    def is_shared(self) -> bool:
        """Whether other tuners wait for devices under the key."""
        try:
            return self._tracker.waiting(self.key) > self._asking.locked()
        except Unreachable:
            return False

    def exhausted(self, done: str) -> DeviceError:
        """What is told where it is hopeless; ``done`` says what there is nevertheless."""
        return DeviceError(
            f"no device under the key {self.key!r} of the tracker at {self._tracker.address} has answered for "
            f"{self._patience:g} seconds; {done}; run it again to go on"
        )

    def acquire(self, wanted: Callable[[], bool]) -> Link | None:
        """A device, as soon as one is free. None where it is ``hopeless``, or not ``wanted`` any more."""
        with self._counting:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting += 1
        try:
            while wanted() and not self._gives_up():
                if not self._asking.acquire(timeout=_TICK_SECONDS):
                    continue  # one request of this tuner waits at the tracker, so that other tuners have their turn
                try:
                    found = self._acquired(wanted)
                finally:
                    self._asking.release()
                if found is not None:
                    return found
            return None
        finally:
            with self._counting:
                self._waiting -= 1

    def release(self, link: Link, lost: bool = False) -> None:
        """Gives a device back, or says that it is lost."""
        link.close()
        with self._counting:
            self.in_use -= 1
            self.lost += lost
            self._since = time.monotonic()

    def close(self) -> None:
        """Ends what is kept for the next device."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def _acquired(self, wanted: Callable[[], bool]) -> Link | None:
        """A device; None where there was none, after a pause."""
        link = self._spare = self._spare or Link()
        try:
            link.prepare()
            with self._tracker.requested(self.key, _PRIORITY) as pending:
                while (place := pending.poll(_TICK_SECONDS)) is None:
                    if not wanted() or self._gives_up():
                        return None
                self._spare = None
                if self._is_fit(link.connect(place), place.address):
                    with self._counting:
                        self.in_use += 1
                        self.most_in_use = max(self.most_in_use, self.in_use)
                    return link
        except (Unreachable, Lost) as error:
            self._problem = str(error)
        if self._spare is None:
            link.close()
        time.sleep(_PAUSE_SECONDS)
        return None

    def _is_fit(self, found: Description, address: Address) -> bool:
        """Whether a device is used; a warning says why it is not."""
        problem = found.problem
        if not problem and found != (self._first or found):
            problem = "it is another device than the first, or has other options, and needs a key of its own"
        if problem:
            warning = f"the server at {address} cannot be used: {problem}"
            if warning not in self.warnings:
                self.warnings.append(warning)
        else:
            self._first = found
        return not problem
