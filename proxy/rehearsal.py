"""Trying a configuration, and a program, in a process of its own before anything depends on it.

The command that is run is the daemon's own, with one option more. It reads what is in force on its standard input, and
answers with what would be: whatever it cannot load, open or import there would have failed here.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from config.settings import Settings
from proxy.privileges import Account, raised
from proxy.process import Process

REHEARSAL_SECONDS = 90.0
LARGEST_ANSWER = 4 << 20
HANDOVER = 1
"""The form of what one program hands to the next; a program that knows another cannot take over."""


class Unusable(Exception):  # noqa: N818 - it says what the configuration, or the program, is
    """Not to be had like this; each problem is a line."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Program:
    """The command that the supervisor is the heart of.

    ``load`` reads the configuration (Unusable with every problem of it); ``rehearse`` is the command that tries it,
    ``execute`` the one that is the daemon; ``publish`` writes the tenants' root certificates where devices' owners
    find them.
    """

    load: Callable[[], Settings]
    rehearse: tuple[str, ...]
    execute: tuple[str, ...]
    publish: Callable[[dict[str, str]], None]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What would be in force, as JSON: another version's settings are not ours to read. The rest is for the log."""

    settings: str
    sections: tuple[str, ...]
    kept: tuple[str, ...]
    roots: dict[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """What a rehearsal is asked: ``program`` also tries whether everything can be imported."""

    settings: str
    program: bool
    handover: int = HANDOVER


async def rehearse(command: tuple[str, ...], question: Question, account: Account | None) -> Rehearsed:
    """Try it. Raises Unusable; nothing has been changed in either case."""
    asked = json.dumps({"settings": question.settings, "program": question.program, "handover": question.handover})
    # Files in memory: nobody has to read while it writes.
    with _memory("asked") as standard_input, _memory("answer") as answer, _memory("said") as said:
        os.write(standard_input.fileno, asked.encode())
        os.lseek(standard_input.fileno, 0, os.SEEK_SET)
        process = _started(command, account, standard_input.fileno, answer.fileno, said.fileno)
        try:
            async with asyncio.timeout(REHEARSAL_SECONDS):
                status = await process.exited()
        except TimeoutError:
            raise Unusable((f"trying it took more than {REHEARSAL_SECONDS:g} s",)) from None
        finally:
            process.kill()
        if status != 0:
            lines = [line.removeprefix("Error: ") for line in said.text().splitlines() if line.strip()]
            raise Unusable(tuple(lines[-50:]) or (f"trying it ended with status {status}",))
        return _answer(answer.text())


def _started(command: tuple[str, ...], account: Account | None, asked: int, answer: int, said: int) -> Process:
    try:
        with raised(account):  # it reads the configuration, as this process did; the rest it does as the account
            started = subprocess.Popen(command, stdin=asked, stdout=answer, stderr=said, start_new_session=True)
    except OSError as error:
        raise Unusable((f"{command[0]} cannot be started: {error.strerror}",)) from None
    started.returncode = 0  # its status is Process's to take
    return Process(started.pid)


def _answer(text: str) -> Rehearsed:
    try:
        value = json.loads(text)
        return Rehearsed(
            str(value["settings"]), tuple(value["sections"]), tuple(value["kept"]), dict(value["roots"])
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        raise Unusable(("trying it gave an answer that is none; the program on the disk is not whole",)) from None


class _memory:  # noqa: N801 - used like a function
    """A file in memory, for as long as the block lasts."""

    def __init__(self, name: str) -> None:
        self.fileno = os.memfd_create(f"sallyport-{name}", os.MFD_CLOEXEC)

    def text(self) -> str:
        """What was written to it."""
        return os.pread(self.fileno, LARGEST_ANSWER, 0).decode("utf-8", "replace")

    def __enter__(self) -> _memory:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fileno)
