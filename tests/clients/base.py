"""What a client is written in.

    @client(
        "curl",
        version=["curl", "--version"],
        explicit=options("--proxy http://{proxy}"),
        root=options("--cacert {root}"),
        refusal="unable to get local issuer certificate",
    )
    def curl(visit: Visit) -> str:
        return visit.run("curl", "--silent", "--show-error", *visit.options, visit.url("/"))

Whatever it is that a client fetches, a page, a file of a repository, a message that comes back: it is :data:`TEXT`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.clients.origin import TEXT, Origin

SECONDS = 180
"""What one command may take, on a machine that is busy: a JVM that compiles, a browser that starts."""

INSTALLED = Path(__file__).parents[2] / ".venv-clients" / "bin"
"""Where `make clients` puts what the distribution does not have."""
SEARCH = os.pathsep.join(
    [str(Path(sys.executable).parent), str(INSTALLED), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
)
"""The PATH of the clients: Python's are those of the lock."""


class FailedError(Exception):
    """The client did not get what it went for; its own words."""


@dataclass(frozen=True)
class Way:
    """A way into the proxy: the name of the daemon's listener by which it goes, and its title in the document.

    One more is one of :data:`WAYS`, a listener of ``asking.Stage``, and a setting in the decorator of each client that
    can go it.
    """

    id: str
    title: str


EXPLICIT = Way("explicit", "Through the explicit proxy")
WAYS = (EXPLICIT,)
"""A client goes every way for which its decorator has a setting, under the way's id."""


@dataclass(frozen=True)
class Setting:
    """What somebody writes to set a client up. ``{proxy}``, ``{host}``, ``{port}`` and ``{root}`` are filled in.

    Each kind is shown as it is written: options of the command line, variables of the environment, lines of a file in
    the home folder, commands that are run once, and what stands in a program's own text.
    """

    options: Sequence[str] = ()
    variables: Sequence[str] = ()
    file: str = ""
    lines: Sequence[str] = ()
    commands: Sequence[str] = ()
    code: str = ""

    def shown(self, **places: str) -> list[str]:
        """Its lines as the document has them."""
        texts = [*self.commands, *self.lines, *self.variables, *self.options, *([self.code] if self.code else [])]
        return [text.format(**places) for text in texts]


NOTHING = Setting()


def options(*texts: str) -> Setting:
    """Options of the command line, each with its value as one text."""
    return Setting(options=texts)


def variables(*texts: str) -> Setting:
    """Variables of the environment, ``NAME=value``."""
    return Setting(variables=texts)


def lines(file: str, *texts: str) -> Setting:
    """Lines of a configuration file. One below ``/`` is below :attr:`Visit.home` too, and the client is told so."""
    return Setting(file=file, lines=texts)


def commands(*texts: str) -> Setting:
    """Commands, run before."""
    return Setting(commands=texts)


@dataclass
class Visit:
    """One run of a client: where it goes, and a home folder of its own in which nothing but ``settings`` says how."""

    origin: Origin
    host: str
    """The server's name, of this visit alone: the proxy's log and the server's tell by it what became of the visit."""
    folder: Path
    settings: Sequence[Setting]
    places: Mapping[str, str]
    """What stands for ``{proxy}``, ``{host}``, ``{port}`` and ``{root}``."""
    shared: Path
    """A folder for what is made once for all visits: what is compiled."""
    prefix: Sequence[str] = ()
    """What stands before each command."""
    options: list[str] = field(init=False)
    code: str = field(init=False)

    def __post_init__(self) -> None:
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.options = [word for one in self.settings for text in one.options for word in shlex.split(self._put(text))]
        self.code = ", ".join(self._put(one.code) for one in self.settings if one.code)
        for one in self.settings:
            if one.file:
                with self.file(one.file).open("a") as file:
                    file.writelines(f"{self._put(line)}\n" for line in one.lines)
        for one in self.settings:
            for command in one.commands:
                self.run("sh", "-ec", self._put(command))

    def _put(self, text: str) -> str:
        return text.format(**self.places)

    def file(self, name: str) -> Path:
        """A file of the home folder, whose folder is made where it is not there."""
        path = self.home / name.removeprefix("~").lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def url(self, path: str, scheme: str = "https") -> str:
        return f"{scheme}://{self.host}:{self.origin.port}{path}"

    def run(self, *command: str, stdin: str = "", **more: str) -> str:
        """Run it in the home folder, and return what it wrote to its standard output. ``more``: of the environment.

        Raises FailedError with all that it wrote, where it ends with another status than 0.
        """
        mine = dict(text.split("=", 1) for one in self.settings for text in map(self._put, one.variables))
        done = subprocess.run(
            [*self.prefix, *command],
            cwd=self.home,
            env={"PATH": SEARCH, "HOME": str(self.home), "LANG": "C.UTF-8", **mine, **more},
            capture_output=True,
            text=True,
            errors="replace",
            input=stdin,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise FailedError(f"{shlex.join(command)[:200]}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout


@dataclass(frozen=True)
class Client:
    """A client, and how it is set up."""

    id: str
    """Of letters, digits and hyphens: it is part of a host name."""
    name: str
    version: Sequence[str]
    """The command that tells its version."""
    ways: Mapping[str, Setting]
    """How it is told of the proxy, by the way's id."""
    root: Setting
    system: Setting | None
    """What it takes for it to trust what the system does, with which it is told of no root; None: it never does."""
    refusal: str
    """What it says where it does not trust the root."""
    with_openssl: str
    """The same where it is built with OpenSSL and Debian's is not; empty where there is no such difference."""
    note: str
    cheap: bool
    """Whether `make test` asks it too."""
    needs: Sequence[str]
    """The programs without which it cannot run."""
    go: Callable[[Visit], str] = field(repr=False)

    def refuses(self, said: str) -> bool:
        """Whether that is what it says where it does not trust the root."""
        return self.refusal in said or (self.with_openssl != "" and self.with_openssl in said)

    def missing(self) -> list[str]:
        """The programs that are not here."""
        return [program for program in self.needs if shutil.which(program, path=SEARCH) is None]


CLIENTS: list[Client] = []


def client(
    name: str,
    *,
    version: Sequence[str],
    root: Setting,
    refusal: str,
    with_openssl: str = "",
    system: Setting | None = NOTHING,
    note: str = "",
    cheap: bool = False,
    needs: Sequence[str] = (),
    **ways: Setting,
) -> Callable[[Callable[[Visit], str]], Callable[[Visit], str]]:
    """Add the function as a client. ``ways``: its setting for each; ``needs``: beside the one that has the version."""
    assert set(ways) <= {way.id for way in WAYS}, f"no such way: {set(ways)}"

    def add(go: Callable[[Visit], str]) -> Callable[[Visit], str]:
        id = go.__name__.replace("_", "-")
        CLIENTS.append(
            Client(id, name, version, ways, root, system, refusal, with_openssl, note, cheap, [version[0], *needs], go)
        )
        return go

    return add


__all__ = ["CLIENTS", "EXPLICIT", "TEXT", "WAYS", "Client", "FailedError", "Setting", "Visit", "Way"]
