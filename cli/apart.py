"""Work that handles keys, done in a process of its own that ends with it, so that none of them stays in ours."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cli.context import in_words
from cli.output import Stop


def apart(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, as JSON gives it back. What it says goes where it always goes; its exit status is ours.

    To be called while this process has one thread. Raises SystemExit with the status of work that did not return.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os._exit(_child(work, writing))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        raise SystemExit(status if status > 0 else 1)
    return json.loads(said)


def _child(work: Callable[[], Any], writing: int) -> int:
    """Do the work and write what it returned; the exit status. Never returns to the caller's own stack."""
    status = 1
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(work()).encode())
        status = 0
    except BaseException as error:  # noqa: BLE001 - a child that was forked must not run its parent's handlers
        stop = error if isinstance(error, Stop) else in_words(error) if isinstance(error, Exception) else None
        if stop is None:
            stop = Stop(f"a fault of sallyport itself: {type(error).__name__}: {error}")
        stop.show()
        status = stop.exit_code
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
    return status
