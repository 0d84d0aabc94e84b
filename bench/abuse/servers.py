"""Servers that show much: a hundred certificates, 16 MB of them, loops, thousands of names and constraints.

They are scenarios of the tests, served by nginx. Clients ask for them ten times a second, under another name each time,
so that no verdict is a kept one: what is looked for is a server that costs much, not clients that ask much.
"""

from __future__ import annotations

import itertools
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.abuse.aim import GONE, HOSTILE, Aim, Report, clock
from tests.scenarios import SCENARIOS
from tests.scenarios.serving import Serving

THREADS = 8
RATE = 10


def shown_by(id: str) -> Callable[[Aim], Report]:
    """Clients that ask for the server of a scenario, again and again."""
    scenario = next(one for one in SCENARIOS if one.id == id)

    def ask(aim: Aim) -> Report:
        with (
            tempfile.TemporaryDirectory(prefix="sallyport-hostile-") as scratch,
            Serving(Path(scratch), [scenario]) as serving,
        ):
            return told(ask_again_and_again(replace(aim, target=("127.0.0.1", serving.port(scenario)))))

    return ask


def told(answers: Counter[str]) -> Report:
    """The answers, the most frequent first."""
    return Report("; ".join(f"{count} times {answer}" for answer, count in answers.most_common()))


def ask_again_and_again(aim: Aim, clients: int = THREADS) -> Counter[str]:
    """Ask, each time under another name; the first line of what came, or the details of a page, by how often."""
    context = aim.context()
    began = time.monotonic()
    more = clock(aim.seconds)
    numbers = itertools.count()
    answers: Counter[str] = Counter()
    lock = threading.Lock()

    def one() -> str:
        number = next(numbers)
        time.sleep(max(0, began + number / RATE - time.monotonic()))
        host = f"h{number}.{HOSTILE}"
        try:
            with replace(aim, host=host).tls(context) as tls:
                tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                head = b""
                while b"\r\n\r\n" not in head and (piece := tls.recv(65_536)):
                    head += piece
        except ssl.SSLError as error:
            return f"no TLS ({error.reason})"
        except GONE:
            return "no answer"
        _, _, details = head.partition(b'details="')
        return details.partition(b'"')[0].decode() or head[:12].decode("latin-1")

    def client() -> None:
        while more():
            answer = one()
            with lock:
                answers[answer] += 1

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return answers
