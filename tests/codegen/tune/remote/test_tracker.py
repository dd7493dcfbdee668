"""A tracker that is not there, or is none, costs a bounded wait and one sentence."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from threading import Thread

import pytest

from codegen.tune.remote import tracker
from codegen.tune.remote.tracker import Address, Tracker, Unreachable
from tensoropt.errors import UsageError
from tests.codegen.tune.remote.network import KEY, Network, free_ports


@pytest.mark.parametrize(
    ("text", "address"),
    [("box:9190", ("box", 9190)), (" 10.0.0.1:1 ", ("10.0.0.1", 1)), ("[::1]:65535", ("::1", 65535))],
)
def test_addresses_are_read_as_they_are_written(text: str, address: tuple[str, int]) -> None:
    parsed = Address.parse(text)
    assert parsed == address
    assert str(parsed) == text.strip()


@pytest.mark.parametrize("text", ["", "box", ":9190", "box:", "box:0", "box:65536", "box:-1", "box:9190x", "box:٣"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--rpc is HOST:PORT"):
        Address.parse(text)


def answering(answer: Callable[[socket.socket], None]) -> Address:
    """Where something listens that answers the first who connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, listener:
            answer(connection)

    Thread(target=serve, daemon=True).start()
    return Address("127.0.0.1", listener.getsockname()[1])


def test_nobody_listens() -> None:
    address = Address("127.0.0.1", *free_ports(1))
    with pytest.raises(Unreachable, match=f"no tracker answers at {address} .*rpc_tracker"):
        Tracker(address).servers()


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: None,
        lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        lambda connection: connection.sendall(b"\x71\xf2\x02\x00\x04\x00\x00\x00null"),
        lambda connection: connection.sendall(b"\x71\xf2\x02\x00\x02\x00\x00\x00{}"),
        lambda connection: time.sleep(3),
    ],
    ids=["closes", "another protocol", "null", "an object", "silent"],
)
def test_what_listens_is_no_tracker(answer: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracker, "_REPLY_SECONDS", 0.5)
    with pytest.raises(Unreachable, match="does not answer as TVM's tracker does"):
        Tracker(answering(answer)).servers()


def test_a_request_waits_no_longer_than_it_is_told_to() -> None:
    """And ends with the tracker."""
    with Network(0) as network:
        until = time.monotonic() + 60
        while True:
            try:
                assert Tracker(network.address).servers() == {}
                break
            except Unreachable:
                assert time.monotonic() < until
                time.sleep(0.1)
        with Tracker(network.address).requested(KEY, 1) as pending:
            assert pending.poll(0.1) is None
            network.kill_tracker()
            with pytest.raises(Unreachable):
                pending.poll(10)
