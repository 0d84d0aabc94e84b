"""The cases on a real server: one nginx for all, on one port where their TLS settings allow it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from certs.names import parse_host
from tests.harness.listening import Listening
from tests.harness.origins import Nginx, Site
from tests.scenarios.base import Scenario, Server

USUAL = Server.ciphers, Server.versions


class Serving:
    """``with Serving(folder, cases) as serving``: those of the cases that a running server can show, served."""

    def __init__(self, folder: Path, scenarios: Sequence[Scenario]) -> None:
        self.scenarios = [one for one in scenarios if not one.hindrance]
        self.nginx = Nginx(folder, [_site(folder, one) for one in self.scenarios])
        self._exchanging: dict[str, Exchanging] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.nginx)
            for one in self.scenarios:
                if (pair := one.server.exchanged) is not None:
                    self._exchanging[one.id] = stack.enter_context(Exchanging(self._site(one).port, *pair))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def port(self, scenario: Scenario) -> int:
        """Where the case is to be asked for, at its host."""
        exchanging = self._exchanging.get(scenario.id)
        return self._site(scenario).port if exchanging is None else exchanging.port

    def address(self, scenario: Scenario) -> str:
        """The address that the host leads to."""
        return self._site(scenario).address

    def url(self, scenario: Scenario, path: str = "/") -> str:
        """The same as a URL."""
        host = scenario.server.host
        return f"https://{f'[{host}]' if ':' in host else host}:{self.port(scenario)}{path}"

    def requests(self, scenario: Scenario) -> list[dict[str, Any]]:
        """What arrived for the case."""
        return self.nginx.requests(self._site(scenario).name)

    def _site(self, scenario: Scenario) -> Site:
        return self.nginx[_name(scenario)]


def _name(scenario: Scenario) -> str:
    """The name by which nginx tells it from others: what is asked for, or, for an address, the case's own."""
    host = scenario.server.host
    return scenario.host if parse_host(host).is_ip else host


def _site(folder: Path, scenario: Scenario) -> Site:
    server = scenario.server
    lines = [f'ssl_ciphers "{server.ciphers}:@SECLEVEL=0";']
    if server.dh:
        file = folder / f"{scenario.name}.dh"
        file.write_text(server.dh)
        lines.append(f"ssl_dhparam {file};")
    if server.stapled:
        file = folder / f"{scenario.name}.ocsp"
        file.write_bytes(server.stapled)
        lines += ["ssl_stapling on;", f"ssl_stapling_file {file};"]
    return Site(
        _name(scenario),
        (*server.held, *server.sent)[0],
        address=server.host if parse_host(server.host).is_ip else "127.0.0.1",
        http2=False,
        protocols=" ".join(server.versions),
        sent=[*server.held, *server.sent[len(server.held) :]],
        alone=(server.ciphers, tuple(server.versions)) != USUAL,
        lines=lines,
    )


class Exchanging(Listening):
    """Stands before a server of TLS 1.2, and exchanges octets of what it sends."""

    def __init__(self, port: int, said: bytes, arrives: bytes) -> None:
        super().__init__()
        self._server = port
        self._pair = said, arrives

    def took(self, sock: socket.socket) -> None:
        threading.Thread(target=self._between, args=(sock,), daemon=True).start()

    def _between(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server), timeout=20) as server:
            client.settimeout(20)
            thread = threading.Thread(target=_pass_on, args=(client, server), daemon=True)
            thread.start()
            with contextlib.suppress(OSError):
                self._exchange(server, client)
            for end in (server, client):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    def _exchange(self, server: socket.socket, client: socket.socket) -> None:
        held, done = b"", False
        while data := server.recv(65536):
            held += data
            if done or self._pair[0] in held:
                client.sendall(held if done else held.replace(*self._pair, 1))
                held, done = b"", True
        client.sendall(held)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
