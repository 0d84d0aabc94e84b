"""The issuer's process: ``python -m issuer --listen-fd N --control-fd M``, with the settings as JSON on stdin.

The supervisor binds the socket and hands it on, so that connections wait in its queue while an issuer is restarted. The
control descriptor is one end of a socket pair: ``r`` is written to it when the first connection can be served, and its
end is the supervisor's. Exit status 0 after SIGTERM or that end, 2 where it cannot start (one line on stderr).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
from datetime import UTC, datetime

from pydantic import ValidationError

from config.settings import Settings
from issuer.events import log_event
from issuer.hardening import harden_child, keep_others_out, lock_memory
from issuer.service import Service
from kms.providers.local import MASTER_KEY_FILE, KeyFileError, LocalProvider
from store.engine import DATABASE_FILE, Store, StoreError


def main(arguments: list[str]) -> int:
    """Run until told to end. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m issuer", description="The process that holds CA keys.")
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    options = parser.parse_args(arguments)
    harden_child()
    keep_others_out()
    try:
        settings = Settings.model_validate_json(sys.stdin.buffer.read())
        # Only now: the supervisor may have raised our limit meanwhile.
        if (reason := lock_memory()) is not None:
            log_event("memory_not_locked", "warning", reason=reason)
        listener = socket.socket(fileno=options.listen_fd)
        control = socket.socket(fileno=options.control_fd)
        control.setblocking(False)
        listener.setblocking(False)
        provider = LocalProvider.open(settings.state_dir / MASTER_KEY_FILE, create=False)
        with listener, control, Store.open(settings.state_dir / DATABASE_FILE, create=False) as store:
            asyncio.run(serve(store, provider, settings, listener, control))
    except ValidationError as error:
        return _failed(f"the settings on stdin are not valid: {error.error_count()} errors")
    except (KeyFileError, StoreError, OSError) as error:
        return _failed(str(error))
    return 0


async def serve(
    store: Store, provider: LocalProvider, settings: Settings, listener: socket.socket, control: socket.socket
) -> None:
    """Issue leaves until SIGTERM, or until the supervisor's end of ``control`` is gone. Raises StoreError, OSError."""
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    # These two are sent to the whole group by a terminal; what they mean is the supervisor's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def control_readable() -> None:
        try:
            if control.recv(64):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # as good as its end
        loop.remove_reader(control)
        ending.set()

    loop.add_reader(control, control_readable)
    service = Service(store, provider, settings, lambda: datetime.now(UTC))  # noqa: TID251 - a process's main
    following = await service.start(listener)
    following.add_done_callback(lambda _: ending.set())
    try:
        control.send(b"r")
    except OSError:
        ending.set()
    log_event("ready")
    await ending.wait()
    await service.stop()
    log_event("ended")
    if not following.cancelled():
        following.result()


def _failed(problem: str) -> int:
    sys.stderr.write(f"issuer: {' '.join(problem.split())}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
