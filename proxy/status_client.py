"""Asking workers how they are: the other side of :mod:`proxy.status_socket`, for the monitor, commands and console."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from issuer.sockets import connect_unix, is_ours, peer_uid
from proxy.control import STATUS_SOCKETS

LARGEST_ANSWER = 8 << 20
ANSWER_SECONDS = 2.0

type Answer = dict[str, Any]


class StatusError(Exception):
    """A process gave no answer; one line that says why."""


async def ask(path: Path, question: Answer) -> Answer:
    """Ask one process. Raises StatusError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            with connect_unix(path) as connection:
                if not is_ours(peer_uid(connection)):
                    raise StatusError(f"{path} belongs to another user")
                await loop.sock_sendall(connection, json.dumps(question).encode() + b"\n")
                said = bytearray()
                while piece := await loop.sock_recv(connection, 1 << 16):
                    said += piece
                    if len(said) > LARGEST_ANSWER:
                        raise StatusError(f"{path}: the answer has more than {LARGEST_ANSWER} bytes")
    except TimeoutError:
        raise StatusError(f"{path}: no answer within {ANSWER_SECONDS:g} s") from None
    except OSError as error:
        raise StatusError(f"{path}: {error.strerror or error}") from None
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        raise StatusError(f"{path}: the answer is no JSON") from None
    if not isinstance(answer, dict) or "error" in answer:
        raise StatusError(f"{path}: the question was not understood; is the daemon of another version?")
    return answer


async def ask_all(
    state_dir: Path, question: Answer | Callable[[Path], Answer], sockets: str = STATUS_SOCKETS
) -> list[Answer]:
    """The answers of all workers of an installation that answer, in the order of their numbers.

    ``question``: the same for all, or what is asked at each one's socket. ``sockets``: of processes of another kind.
    """
    paths = sorted((state_dir / "run").glob(sockets))
    each = question if callable(question) else lambda _: question
    answers = await asyncio.gather(*(ask(path, each(path)) for path in paths), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, StatusError):
            raise answer
    found = [answer for answer in answers if isinstance(answer, dict)]
    return sorted(found, key=lambda answer: (answer.get("number", 0), answer.get("pid", 0)))


async def ask_events(state_dir: Path, since: Mapping[str, int], most: int, tenant: str | None) -> list[Answer]:
    """What each worker tells of what came lately (:meth:`proxy.events.Events.answer`), of a tenant, or of all (None).

    ``since``: under the ``token`` of each answer of before, its ``last``. A worker that is not among these tells the
    last ``most`` events; each of the others at most so many behind that one.
    """
    # A token begins with the number of the process, and so does the name of its socket.
    known = {token.partition("-")[0]: (token, last) for token, last in since.items()}

    def question(path: Path) -> Answer:
        token, last = known.get(path.stem.rpartition("-")[2], (None, None))
        return {"ask": "events", "since": last, "token": token, "most": most, "tenant": tenant}

    return await ask_all(state_dir, question)
