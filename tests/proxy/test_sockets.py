"""Which listener keeps its socket, and what is said where one cannot be had."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from config.settings import Listener
from proxy.sockets import IPV6_TRANSPARENT, Bound, address, arrange, bind
from proxy.start_error import StartError
from tests.harness.daemon import REPOSITORY
from tests.harness.processes import free_port


@contextmanager
def arranged(*listeners: Listener) -> Iterator[list[Bound]]:
    bound = arrange((), listeners).bound
    try:
        yield bound
    finally:
        for _, listening in bound:
            listening.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_port_that_is_taken_is_an_error_that_names_the_setting(host: str) -> None:
    first = bind(Listener(name="one", bind=f"{host}:0"), 0)
    with first, pytest.raises(StartError, match=r"listeners\[3\]\.bind: cannot listen on .*: Address already in use"):
        bind(Listener(name="two", bind=address(first)), 3)
    assert first.family in (socket.AF_INET, socket.AF_INET6)


def test_a_listener_keeps_the_socket_of_its_address_under_another_name_and_tenant() -> None:
    port = free_port()
    with arranged(Listener(name="one", bind=f"127.0.0.1:{port}")) as before:
        after = arrange(before, [Listener(name="other", bind=f"127.0.0.1:{port}", tenant="other")])
        assert [listening for _, listening in after.bound] == [before[0][1]]
        assert [listener.tenant for listener, _ in after.bound] == ["other"]
        assert (after.opened, after.left) == ([], [])


def test_ports_that_the_system_chose_belong_to_names() -> None:
    one, two = (Listener(name=name, bind="127.0.0.1:0") for name in ("one", "two"))
    with arranged(one, two) as before:
        after = arrange(before, [two, Listener(name="three", bind="127.0.0.1:0")])
        assert after.bound[0][1] is before[1][1]
        assert [listener.name for listener, _ in after.opened] == ["three"]
        assert after.left == [before[0]]
        after.opened[0][1].close()


def test_a_wireguard_listener_has_a_socket_of_udp_and_never_that_of_another() -> None:
    port = free_port()
    one = Listener(name="one", bind=f"127.0.0.1:{port}")
    other = one.model_copy(update={"mode": "wireguard"})
    with arranged(one) as before:
        after = arrange(before, [other])
        assert (after.bound, after.left) == (after.opened, before)
        with after.bound[0][1] as listening:
            assert listening.type == socket.SOCK_DGRAM
            with pytest.raises(StartError, match=r"listeners\[0\]\.bind: cannot listen on .*: Address already in"):
                arrange((), [other])


def test_where_one_cannot_be_bound_none_is_new_and_the_others_stay() -> None:
    with socket.socket() as taken, arranged(Listener(name="one", bind="127.0.0.1:0")) as before:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        free = free_port()
        wanted = [
            Listener(name="one", bind="127.0.0.1:0"),
            Listener(name="free", bind=f"127.0.0.1:{free}"),
            Listener(name="taken", bind=f"127.0.0.1:{taken.getsockname()[1]}"),
        ]
        with pytest.raises(StartError, match=r"listeners\[2\]\.bind"):
            arrange(before, wanted)
        bind(wanted[1], 1).close()
        socket.create_connection(before[0][1].getsockname()).close()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="to take others' addresses takes root")
TRANSPARENT = {"127.0.0.1": (socket.SOL_IP, socket.IP_TRANSPARENT), "[::1]": (socket.IPPROTO_IPV6, IPV6_TRANSPARENT)}


@needs_root
@pytest.mark.parametrize("host", TRANSPARENT)
def test_a_socket_that_is_handed_foreign_connections_may_take_their_addresses(host: str) -> None:
    with arranged(Listener(name="one", mode="transparent", bind=f"{host}:0")) as before:
        kept = before[0][1]
        assert kept.getsockopt(*TRANSPARENT[host]) == 0
        # A reload changes the mode, and keeps the socket.
        after = arrange(before, [Listener(name="one", mode="tproxy", bind=f"{host}:0")])
        assert after.bound[0][1] is kept
        assert kept.getsockopt(*TRANSPARENT[host]) == 1


@needs_root
def test_without_the_capability_it_is_said_which_and_how_to_give_it() -> None:
    code = (
        "import os\nfrom config.settings import Listener\nfrom proxy.sockets import bind\n"
        "from proxy.start_error import StartError\nos.setgid(65534); os.setuid(65534)\n"
        "try: bind(Listener(name='one', mode='tproxy', bind='127.0.0.1:0'), 2)\n"
        "except StartError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("listeners[2].mode: tproxy cannot take other machines' addresses: ")
    assert "AmbientCapabilities=CAP_NET_ADMIN" in done.stdout
