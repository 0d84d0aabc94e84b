"""What certificates point to: CRLs without end, issuers that redirect inside, responders that drip, or lie.

Each connection is shown a certificate of its own, with URLs of its own at one of a dozen hosts: what failed once is not
asked again for a minute, and it is the asking that costs. The certificates are of a CA that the tenant trusts.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from bench.abuse.aim import HOSTILE, PUBLISHERS, Aim, Report
from bench.abuse.servers import ask_again_and_again, told
from tests.harness.listening import Listening
from tests.harness.pki import DAY, NOW, Authority, Issued, Raw, issuer_at, kept_key
from tests.harness.revocation import names, ocsp_answer

CLIENTS = 40
"""Some attacks take seconds each."""
CERTIFICATES = 300
DRIP_SECONDS = 0.05
AT = "127.0.0.2"
INSIDE = ("http://127.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/", "http://[::1]:{port}/")

Body = Callable[[Issued], bytes]


def endless_crl(aim: Aim) -> Report:
    """A CRL that does not end, as fast as it is taken."""
    return _attack(aim, lambda url: names(crl=url), endless=True)


def dripping_issuer(aim: Aim) -> Report:
    """An issuer of which a byte comes now and then."""
    return _attack(aim, lambda url: [issuer_at(url)], lacking=True)


def dripping_responder(aim: Aim) -> Report:
    """The same with an OCSP answer."""
    return _attack(aim, lambda url: names(ocsp=url))


def redirecting_issuer(aim: Aim) -> Report:
    """An issuer that is said to be at this machine, or where clouds hand out credentials."""
    with _Inside() as inside:
        report = _attack(
            aim, lambda url: [issuer_at(url)], lacking=True, inside=[each.format(port=inside.port) for each in INSIDE]
        )
        report.through += inside.came
        report.notes.append(f"{inside.came} connections inside")
        return report


def responder_with(answer: Callable[[Issued], bytes]) -> Callable[[Aim], Report]:
    """A responder that answers so, about each certificate."""
    return lambda aim: _attack(aim, lambda url: names(ocsp=url), body=answer)


def of_another_key(about: Issued) -> bytes:
    return ocsp_answer(about, signer=Authority.root("Hostile", key=kept_key("ec256", 1)))


def out_of_date(about: Issued) -> bytes:
    return ocsp_answer(about, this_update=NOW - 9 * DAY, next_update=NOW - DAY)


def of_another_serial(about: Issued) -> bytes:
    if not isinstance(about.parent, Authority):
        raise TypeError("it is of no CA")
    return ocsp_answer(about.parent.leaf("another.example", key=about.key))


def _attack(
    aim: Aim,
    points: Callable[[str], list[Raw]],
    *,
    lacking: bool = False,
    endless: bool = False,
    inside: list[str] | None = None,
    body: Body | None = None,
) -> Report:
    """``lacking``: the server leaves its intermediate out."""
    ca = _ca(aim)
    by_path: dict[str, Issued] = {}

    def made(number: int) -> Issued:
        path = f"/{number}"
        url = f"http://{PUBLISHERS[number % len(PUBLISHERS)]}:{aim.published}{path}"
        issuer = ca.intermediate("Left out", key=kept_key("ec256", 2)) if lacking else ca
        leaf = issuer.leaf(f"*.{HOSTILE}", key=kept_key("ec256", 3), extra=points(url))
        by_path[path] = leaf
        return leaf

    leaves = [made(number) for number in range(CERTIFICATES)]
    with tempfile.TemporaryDirectory(prefix="sallyport-hostile-") as scratch:
        contexts = itertools.cycle([_context(Path(scratch), leaf) for leaf in leaves])
        with _Publishing(aim.published, by_path, endless, inside, body) as publishing, _Serving(contexts) as serving:
            answers = ask_again_and_again(replace(aim, target=("127.0.0.1", serving.port)), CLIENTS)
    report = told(answers)
    report.through = serving.requests
    report.notes.append(f"{publishing.asked} fetches were begun")
    return report


def _ca(aim: Aim) -> Authority:
    pem = b"" if aim.ca is None else aim.ca.read_bytes()
    certificate, key = x509.load_pem_x509_certificate(pem), load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("a key of another kind")
    return Authority(certificate.public_bytes(Encoding.DER), key, certificate.subject)


def _context(folder: Path, leaf: Issued) -> ssl.SSLContext:
    certificate, key = folder / "leaf.pem", folder / "leaf.key"
    certificate.write_bytes(leaf.pem())
    key.write_bytes(leaf.key_pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class _Serving(Listening):
    """A TLS server with another certificate for each connection. ``requests``: what should not have arrived."""

    def __init__(self, contexts: Iterator[ssl.SSLContext]) -> None:
        super().__init__()
        self._contexts = contexts
        self._lock = threading.Lock()
        self.requests = 0

    def took(self, sock: socket.socket) -> None:
        with self._lock:
            context = next(self._contexts)
        threading.Thread(target=self._serve, args=(sock, context), daemon=True).start()

    def _serve(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.settimeout(30)
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as tls:
            if tls.recv(1):
                with self._lock:
                    self.requests += 1
                tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class _Inside(Listening):
    """What only the proxy's own machine reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.came = 0

    def took(self, sock: socket.socket) -> None:
        self.came += 1
        sock.close()


class _Publishing:
    """The hosts that certificates point to."""

    def __init__(
        self, port: int, by_path: dict[str, Issued], endless: bool, inside: list[str] | None, body: Body | None
    ) -> None:
        self.asked = 0
        self._ending = threading.Event()
        outer, elsewhere = self, itertools.cycle(inside or [""])

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                with contextlib.suppress(OSError):
                    self._answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.do_GET()

            def _answer(self) -> None:
                if inside is not None:
                    self.send_response(302)
                    self.send_header("Location", next(elsewhere))
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                self.send_response(200)
                if body is not None:
                    made = body(by_path[self.path])
                    self.send_header("Content-Length", str(len(made)))
                    self.end_headers()
                    self.wfile.write(made)
                    return None
                self.end_headers()
                while not outer._ending.wait(0 if endless else DRIP_SECONDS):
                    self.wfile.write(b"\x30" * (65_536 if endless else 1))
                return None

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer((AT, port), Handler)
        self._server.daemon_threads = True

    def __enter__(self) -> _Publishing:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._server.shutdown()
        self._server.server_close()
