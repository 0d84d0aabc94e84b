"""A process of ours, which this program started or the one before it in the same process: only its number is needed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal


class Process:
    """A child. Nobody else waits for it, so its number stays its own until its status was taken here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        """The exit status, negative for a signal; None while it runs."""

    def poll(self) -> int | None:
        """The status, if it has ended."""
        if self.status is None:
            self._take(os.WNOHANG)
        return self.status

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def exited(self) -> int:
        """Wait for its end by a descriptor (pidfd_open(2), Linux 5.3); its status."""
        if (status := self.poll()) is not None:
            return status
        loop = asyncio.get_running_loop()
        fd = os.pidfd_open(self.pid)
        done: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            loop.remove_reader(fd)
            if not done.done():
                done.set_result(None)

        try:
            loop.add_reader(fd, readable)
            await done
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        return self._take(0)  # it has ended, so there is nothing to wait for

    def kill(self) -> None:
        """End it at once, and take its status."""
        if self.poll() is None:
            self.signal(signal.SIGKILL)
            self._take(0)

    def _take(self, options: int) -> int:
        """Take the status; with WNOHANG it may not be there yet, and what is returned means nothing."""
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            pid, status = self.pid, 0  # it was never ours, or somebody took its status
        if pid:
            self.status = os.waitstatus_to_exitcode(status)
        return self.status or 0
