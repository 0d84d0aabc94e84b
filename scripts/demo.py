"""What Sallyport is for, shown in a minute and without the internet: ``make demo``.

Five HTTPS servers on loopback, a daemon in a scratch folder, and curl between them: one server passes, four are
blocked, each with its reason; then the administrator adds the private CA, and its server passes too. Nothing stays
behind. Exit status 0 only if all of it went as told.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml
from demo_servers import DAY, NOW, Identity, Server, issue

REPOSITORY = Path(__file__).resolve().parents[1]
SALLYPORT = (sys.executable, "-m", "cli.main")
WIDTH = 78
COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
GREEN, RED, BOLD, DIM = "32", "31", "1", "2"


class Failed(Exception):  # noqa: N818 - the demonstration failed; it is said so, and no more
    """It cannot go on; the text says why."""


# What is printed


def paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if COLOUR else text


def say(text: str = "", indent: int = 0) -> None:
    """A paragraph in at most WIDTH columns."""
    pad = " " * indent
    print(textwrap.fill(text, WIDTH, initial_indent=pad, subsequent_indent=pad) if text else "", flush=True)


def row(name: str, text: str, colour: str | None = None) -> None:
    """One line, or more, of what came: a name and a value in columns."""
    lines = textwrap.wrap(text, WIDTH - 18, break_on_hyphens=False) or [""]
    for place, line in enumerate(lines):
        print(f"     {name if place == 0 else '':<13}{paint(line, colour) if colour else line}", flush=True)


def shell(line: str) -> None:
    print(f"     {paint('$ ' + line, DIM)}", flush=True)


# The daemon and curl


@dataclass
class Demo:
    """The scratch folder and what runs in it."""

    folder: Path
    proxy: str = ""
    failures: int = 0

    @property
    def root(self) -> Path:
        return self.folder / "state" / "certs" / "default-root.pem"

    def sallyport(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [*SALLYPORT, "--config", str(self.folder / "sallyport.yaml"), *args]
        return subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False)

    def configure(self, servers: list[Server], public: Identity) -> None:
        (self.folder / "public-ca.pem").write_bytes(public.pem())
        settings = {
            "state_dir": "state",
            "workers": 1,
            "listeners": [{"name": "explicit", "mode": "explicit", "bind": "127.0.0.1:0", "tenant": "default"}],
            "trust": {"common_store": "public-ca.pem"},
            "egress": {"allow": ["127.0.0.0/8"]},
            "resolver": {"hosts": {server.host: "127.0.0.1" for server in servers}},
            "metrics": {"enabled": False},  # its port may be taken by a daemon in earnest, and so may the console's
            "console": {"enabled": False},
            "log": {"file": "sallyport.log"},
        }
        (self.folder / "sallyport.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """The daemon, from when it is ready until the end. In a session of its own: Ctrl-C is ours."""
        errors = self.folder / "stderr"
        with errors.open("wb") as stderr:
            process = subprocess.Popen(
                [*SALLYPORT, "--config", str(self.folder / "sallyport.yaml"), "serve"],
                cwd=REPOSITORY, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                text=True, start_new_session=True,
            )  # fmt: skip
        assert process.stdout is not None  # noqa: S101 - asked for above
        try:
            marker = "Sallyport listens on http://"
            for line in process.stdout:
                if line.startswith(marker):
                    self.proxy = line.removeprefix(marker).split()[0]
                    break
            else:
                raise Failed(f"the daemon did not start: {errors.read_text().strip()}")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def curl(self, url: str) -> Answer:
        """Ask for ``url`` with curl, through the proxy, trusting its root certificate and nothing else."""
        head, body = self.folder / "head", self.folder / "body"
        for old in (head, body):
            old.unlink(missing_ok=True)
        done = subprocess.run(
            ["curl", "-q", "--silent", "--show-error", "--max-time", "20", "--proxy", f"http://{self.proxy}",
             "--cacert", str(self.root), "--header", "Accept: application/problem+json, text/plain;q=0.9",
             "--suppress-connect-headers", "--dump-header", str(head), "--output", str(body), url],
            env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not head.exists() or not (lines := head.read_text("latin-1").splitlines()):
            return Answer(0, "", done.stderr.strip())
        parted = [line.partition(":") for line in lines[1:]]
        fields = {name.strip().lower(): value.strip() for name, _, value in parted}
        text = body.read_text("utf-8", "replace") if body.exists() else ""
        if "problem+json" in fields.get("content-type", ""):
            problem = json.loads(text)
            text = " ".join(finding["explanation"] for finding in problem.get("findings", ())) or problem["detail"]
        return Answer(int(lines[0].split()[1]), fields.get("proxy-status", ""), text.strip())

    def shown_certificate(self, server: Server) -> str:
        """The name of who issued the certificate that a client of the proxy is shown for the server."""
        address, _, port = self.proxy.partition(":")
        context = ssl.create_default_context(cafile=str(self.root))
        connection = http.client.HTTPSConnection(address, int(port), context=context, timeout=20)
        connection.set_tunnel(server.host, server.server_address[1])
        with contextlib.closing(connection):
            connection.connect()
            peer = connection.sock.getpeercert()
        # The module's types call the nested tuples of getpeercert() anything at all.
        issuer: tuple[tuple[tuple[str, str], ...], ...] = peer["issuer"] if peer else ()  # type: ignore[assignment]
        return next((value for rdn in issuer for name, value in rdn if name == "commonName"), "nobody")


@dataclass(frozen=True)
class Answer:
    """What curl got. ``status`` is 0 where nothing came; ``text`` is the body, the detail, or curl's error."""

    status: int
    proxy_status: str
    text: str


@dataclass(frozen=True)
class Case:
    """One server, what is the matter with it, and what must come of it (None: it passes)."""

    title: str
    server: Server
    defect: str | None


def environment() -> dict[str, str]:
    """Ours without what would steer curl or the command elsewhere."""
    unwanted = ("_proxy", "sallyport_", "curl_")
    return {name: value for name, value in os.environ.items() if not any(part in name.lower() for part in unwanted)}


# The demonstration


def cast(folder: Path) -> tuple[list[Case], Identity, Identity]:
    """The five servers, running; the root that "everybody" trusts; the private issuing CA, whose root is above it."""
    public = issue("Demo Public Root", ca=True)
    company_root = issue("Example Company Root", ca=True)
    company = issue("Example Company Issuing CA", company_root, ca=True)

    def server(name: str, identity: Identity) -> Server:
        return Server(f"{name}.demo.test", identity, folder)

    def signed(name: str, by: Identity | None) -> Identity:
        return issue(f"{name}.demo.test", by, host=f"{name}.demo.test")

    past = issue("expired.demo.test", public, host="expired.demo.test", start=NOW - 90 * DAY, end=NOW - 3 * DAY)
    cases = [
        Case("A good server, certified by a CA that everybody trusts", server("good", signed("good", public)), None),
        Case(
            "A server of a company's own CA, which nobody else knows",
            server("intranet", signed("intranet", company)),
            "untrusted_root",
        ),
        Case("A server that vouches for itself", server("selfsigned", signed("selfsigned", None)), "self_signed"),
        Case("A server with a certificate of the past", server("expired", past), "expired"),
        Case(
            "A server with the certificate of another",
            server("wronghost", signed("another", public)),
            "hostname_mismatch",
        ),
    ]
    return cases, public, company


def show(demo: Demo, number: int, case: Case) -> bool:
    """Ask one server and print what came; whether that was as told."""
    print(f"\n {number}.  {paint(case.title, BOLD)}", flush=True)
    shell(f"curl {case.server.url}")
    answer = demo.curl(case.server.url)
    if answer.status == 0:
        row("No answer", answer.text, RED)
        return False
    passed = answer.status == 200
    row("HTTP status", f"{answer.status}, {'passed' if passed else 'blocked'}", GREEN if passed else RED)
    if answer.proxy_status:
        row("Proxy-Status", answer.proxy_status)
    row("Body" if passed else "Why", answer.text)
    row("Server saw", "the request" if case.server.requests else "no request at all")
    if case.defect is None:
        row("Leaf from", demo.shown_certificate(case.server))
        return passed and case.server.requests == 1
    expected = f'error=tls_certificate_error; details="{case.defect}"'
    return answer.status == 502 and expected in answer.proxy_status and case.server.requests == 0


def add_private_ca(demo: Demo, case: Case, company: Identity) -> bool:
    """Add the private CA to the running daemon; whether its server passes within a second."""
    print(f"\n {paint('Now the administrator trusts the company CA, while the daemon runs', BOLD)}", flush=True)
    path = demo.folder / "company-ca.pem"
    path.write_bytes(company.chain_pem())
    shell("sallyport trusted-ca add company company-ca.pem")
    done = demo.sallyport("trusted-ca", "add", "company", str(path))
    added = time.monotonic()
    row("", (done.stdout or done.stderr).strip(), None if done.returncode == 0 else RED)
    if done.returncode != 0:
        return False
    shell(f"curl {case.server.url}")
    took = 0.0
    answer = demo.curl(case.server.url)
    while answer.status != 200 and took < 5:
        time.sleep(0.05)
        took = time.monotonic() - added  # when it is asked, not when the answer is there: that is the machine's speed
        answer = demo.curl(case.server.url)
    passed = answer.status == 200
    verdict = f"passed, asked {took:.1f} s after the command" if passed else "still blocked"
    row("HTTP status", f"{answer.status}, {verdict}", GREEN if passed else RED)
    row("Body" if passed else "Why", answer.text)
    return passed and took <= 1


def perform(folder: Path) -> bool:
    """All of it; whether everything went as told."""
    cases, public, company = cast(folder)
    demo = Demo(folder)
    demo.configure([case.server for case in cases], public)
    say()
    say(paint("Sallyport, shown on this machine alone", BOLD), 1)
    say("Five HTTPS servers, curl, and between them a proxy that judges each server before anything is sent to it.", 1)
    with demo.serving():
        say()
        for name, value in (("Proxy", demo.proxy), ("Folder", f"{folder}, removed at the end")):
            row(name, value)
        row("curl", f"--proxy http://{demo.proxy} --cacert default-root.pem")
        told = [show(demo, number, case) for number, case in enumerate(cases, start=1)]
        told.append(add_private_ca(demo, cases[1], company))
    say()
    if all(told):
        say(f"{paint('All of it went as told.', GREEN)} The daemon is stopped and the folder is gone. Next:", 1)
        for command, what in (
            ("make run", "the proxy for real, on 127.0.0.1:8080"),
            (".venv/bin/sallyport probe HOST", "what it thinks of a server, and why"),
            (".venv/bin/sallyport errors show", "what is done about each defect"),
        ):
            print(f"     {command:<34}{what}", flush=True)
    else:
        wrong = [str(number) for number, good in enumerate(told[:-1], start=1) if not good]
        wrong += [] if told[-1] else ["the added CA"]
        say(paint(f"Not as told: {', '.join(wrong)}.", RED), 1)
        log = folder / "sallyport.log"
        print(log.read_text()[-3000:] if log.exists() else "", file=sys.stderr)
    return all(told)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run it in a scratch folder; the exit status."""
    if shutil.which("curl") is None:
        print("The demonstration needs curl; install it (apt-get install curl) and run it again.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with tempfile.TemporaryDirectory(prefix="sallyport-demo-") as folder:
            return 0 if perform(Path(folder).resolve()) else 1
    except KeyboardInterrupt:
        print("\n Stopped; the daemon is ended and the folder is gone.", file=sys.stderr)
        return 130
    except Failed as error:
        print(f" {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
