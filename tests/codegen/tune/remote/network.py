"""A tracker and servers on this machine's loopback, each a process that tests start and kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from codegen.targets.cpu import host_target
from codegen.targets.parsing import Target, parse_target
from codegen.tune.remote.tracker import Address, Tracker, Unreachable

ROOT = Path(__file__).resolve().parents[4]
TESTS = Path(__file__).resolve().parents[1]
KEY = "device"
LONGEST = 600.0
"""Seconds that nothing takes, however busy the machine is."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def descendants(pid: int) -> set[int]:
    """The processes that one has started, and those that they have."""
    found: set[int] = set()
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = {int(number) for number in listed.read_text().split()}
        except OSError:  # it is gone
            continue
        found |= children.union(*map(descendants, children))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def target_of(name: str) -> Target:
    """The target that the servers of a ``Network`` have."""
    return host_target(2) if name == "cpu" else parse_target(name)


class Network:
    """A tracker and ``servers`` servers of a target, with two threads where that is the cpu."""

    def __init__(self, servers: int, environment: Mapping[str, str] | None = None, target: str = "cpu") -> None:
        port, *self._ports = free_ports(1 + servers)
        self.address = Address("127.0.0.1", port)
        self.target = target_of(target)
        self._options = ("--target", target, *(("--threads", "2") if target == "cpu" else ()))
        self._environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{TESTS}", **(environment or {})}
        self.tracker: subprocess.Popen[bytes] | None = None
        self.servers: list[subprocess.Popen[bytes] | None] = [None] * servers

    def __enter__(self) -> Network:
        self.start_tracker()
        for number in range(len(self.servers)):
            self.start_server(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in range(len(self.servers)):
            self.kill_server(number)
        self.kill_tracker()

    def start_tracker(self) -> None:
        """Starts the tracker, where it was before."""
        self.tracker = self._started("tracker_process.py", str(self.address.port))

    def kill_tracker(self) -> None:
        """Kills the tracker."""
        if self.tracker is not None:
            self.tracker.kill()
            self.tracker.wait()

    def start_server(self, number: int) -> None:
        """Starts a server, where it was before."""
        options = ("--tracker", str(self.address), "--key", KEY, *self._options, "--port", str(self._ports[number]))
        self.servers[number] = self._started("server_process.py", *options)

    def kill_server(self, number: int) -> None:
        """Kills a server; what it has started must end with it."""
        server = self.servers[number]
        if server is None:
            return
        others = descendants(server.pid)
        server.kill()
        server.wait()
        until = time.monotonic() + 60  # one that has just been started imports much before it looks
        while any(map(is_alive, others)) and time.monotonic() < until:
            time.sleep(0.02)
        assert not any(map(is_alive, others)), "a session or a measuring process outlives its server"

    def registered(self, count: int) -> None:
        """Waits until the tracker has so many servers."""
        until = time.monotonic() + LONGEST
        while time.monotonic() < until:
            try:
                if Tracker(self.address).servers()[KEY] >= count:
                    return
            except Unreachable:
                pass
            time.sleep(0.1)
        raise AssertionError(f"no {count} servers after {LONGEST} seconds")

    def _started(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(Path(__file__).with_name(program)), *arguments]
        return subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
