"""What is this machine's own: addresses, listeners, and connections whose owner the kernel tells."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from config.settings import Listener
from proxy.ourselves import Ourselves, Place, Unknown, _owner_in, is_own, owner_of

OTHERS = ("192.0.2.1", "2001:db8::1")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=[("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)], ids=["IPv4", "IPv6"])
def connection(request: pytest.FixtureRequest) -> Iterator[tuple[Place, Place]]:
    """The two ends of one that stands, as whoever has made it sees them."""
    address, family = request.param
    with socket.create_server((address, 0), family=family) as listening:
        made = socket.create_connection(listening.getsockname()[:2])
        taken, _ = listening.accept()
        with made, taken:
            yield made.getsockname()[:2], made.getpeername()[:2]


@pytest.mark.parametrize(("address", "own"), [("127.0.0.1", True), ("::1", True), *((one, False) for one in OTHERS)])
def test_an_address_is_own_where_a_socket_can_have_it(address: str, own: bool) -> None:
    assert is_own(address) is own
    assert is_own("fe80::1%nosuch") is False


def test_an_address_is_asked_about_again_after_a_while() -> None:
    clock = Clock()
    ourselves = Ourselves([], lambda _source, _destination: 0, clock)
    assert not ourselves.has(OTHERS[0])
    ourselves._addresses[OTHERS[0]] = True  # as if it had been given to this machine meanwhile
    assert ourselves.has(OTHERS[0])
    clock.now = 11
    assert not ourselves.has(OTHERS[0])


def test_who_has_made_a_connection(connection: tuple[Place, Place]) -> None:
    source, destination = connection
    assert owner_of(source, destination) == os.getuid()
    assert Ourselves([]).has_made(source, destination) == "the proxy's own user has made it"
    # The same port, and another server: no such connection.
    assert owner_of(source, (destination[0], 9)) is None
    # Of a listener the kernel tells where there is no connection; it has made none.
    assert owner_of(destination, (source[0], 9)) is None
    assert Ourselves([]).has_made(destination, (source[0], 9)) is None


def test_another_users_connection_is_not_ours_and_one_that_nobody_knows_of_may_be() -> None:
    source, destination = ("127.0.0.1", 40000), ("192.0.2.1", 443)

    def silent(_source: Place, _destination: Place) -> int | None:
        raise Unknown("Address family not supported by protocol")

    assert Ourselves([], lambda _source, _destination: os.geteuid() + 1).has_made(source, destination) is None
    told = Ourselves([], silent).has_made(source, destination)
    assert told is not None
    assert "cannot be told" in told
    # Of another machine's address nobody is asked.
    assert Ourselves([], silent).has_made(destination, source) is None


def test_a_refusal_of_the_kernel_is_no_answer() -> None:
    header = struct.pack("=IHHII", 36, 2, 0, 1, 0)
    assert _owner_in(header + struct.pack("=i", -2), b"") is None  # ENOENT
    with pytest.raises(Unknown, match="Operation not permitted"):
        _owner_in(header + struct.pack("=i", -1), b"")


@pytest.mark.parametrize(
    ("bind", "address", "ours"),
    [
        ("127.0.0.1:8443", "127.0.0.1", True),
        ("127.0.0.1:8443", "127.0.0.2", False),
        ("0.0.0.0:8443", "127.0.0.2", True),
        ("0.0.0.0:8443", "192.0.2.1", False),
        ("0.0.0.0:8443", "::1", False),
        ("[::]:8443", "::1", True),
    ],
)
def test_a_connection_to_a_listener_of_ours(bind: str, address: str, ours: bool) -> None:
    # Port 0 in the configuration: what counts is where it listens.
    ourselves = Ourselves([(Listener(name="gw", mode="transparent", bind=bind), ("", 8443))])
    assert ourselves.listens_on(address, 8443) is ours
    assert not ourselves.listens_on(address, 443)
