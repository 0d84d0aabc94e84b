"""Reload (SIGHUP) and upgrade (SIGUSR2): one at a time, tried first, and with an outcome that is told.

Asked while one is under way, the next waits for it; several of a kind that wait are one. A reload comes before an
upgrade, since the upgrade leaves nothing of this program behind that could do it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from pydantic import ValidationError

from config.settings import Settings
from proxy import notify, outcome
from proxy.change import change
from proxy.control import RELOAD, RELOADED
from proxy.handover import VARIABLE, Handover, pack
from proxy.htpasswd_files import paths_of
from proxy.log import ERROR, INFO, WARNING
from proxy.outcome import Outcome
from proxy.privileges import raised
from proxy.rehearsal import Question, Rehearsed, Unusable, rehearse
from proxy.start_error import StartError

if TYPE_CHECKING:
    from proxy.children import Child
    from proxy.supervisor import Supervisor

KINDS = ("reload", "upgrade")
SCRIPTS_SECONDS = 60.0
"""How long a worker may take over loading its inspectors and bypass lists again."""
HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
"""Signals that wait while one program ends and the next has not begun: each would end the process."""


class Reloading:
    """Does what is asked for, one after the other."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._asked: set[str] = set()
        self._waiting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def ask(self, kind: str) -> None:
        """To be done as soon as nothing else of the sort is under way."""
        self._asked.add(kind)
        self._waiting.set()

    def begin(self, handover: Handover | None) -> None:
        """Do what is asked for from now on; first, what the program before this one began."""
        self._task = asyncio.get_running_loop().create_task(self._attend(handover))

    async def stop(self) -> None:
        """Do no more of it."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _attend(self, handover: Handover | None) -> None:
        if handover is not None:
            await self._one("upgrade", handover.began, handover)
        while True:
            await self._waiting.wait()
            kind = next(kind for kind in KINDS if kind in self._asked)
            self._asked.discard(kind)
            if not self._asked:
                self._waiting.clear()
            await self._one(kind, time.monotonic(), None)

    async def _one(self, kind: str, began: float, handover: Handover | None) -> None:
        supervisor = self._supervisor
        supervisor.log.event(INFO, f"{kind} begun" if handover is None else f"{kind} continued", pid=os.getpid())
        notify.reloading()
        try:
            if handover is not None:
                said = await self._taken_over(handover)
            elif kind == "upgrade":
                said = await self._upgrade(began)
            else:
                said = await self._reload()
        except (Unusable, StartError, OSError) as error:
            problems = error.problems if isinstance(error, Unusable) else (str(error),)
            for problem in problems:
                supervisor.log.event(ERROR, f"{kind} refused", reason=problem)
            # Where the program was replaced already, the problem says what stays.
            as_before = ("nothing was changed",) if handover is None else ()
            self._told(Outcome(kind, began, False, (*problems, *as_before)))
        except Exception as error:  # noqa: BLE001 - a fault of ours is told, and must not end what serves
            reason = f"a fault of sallyport itself: {type(error).__name__}: {error}"
            supervisor.log.event(ERROR, f"{kind} refused", reason=reason)
            self._told(Outcome(kind, began, False, (reason,)))
        else:
            supervisor.log.event(INFO, f"{kind} done", said=said)
            self._told(Outcome(kind, began, True, tuple(said)))
        notify.ready(supervisor.status)

    def _told(self, result: Outcome) -> None:
        try:
            outcome.write(self._supervisor.settings.state_dir, result)
        except OSError as error:
            self._supervisor.log.event(
                ERROR, "outcome not written", reason=error.strerror, effect="who waits for it waits in vain"
            )

    # --- reload ---

    async def _reload(self) -> list[str]:
        supervisor = self._supervisor
        with raised(supervisor.account):
            wanted = supervisor.program.load()
        planned = change(supervisor.settings, wanted)
        if not planned.sections:
            return [*self._kept(planned.kept), *await self._scripts()]
        tried = await self._rehearse(program=False)
        try:
            settings = Settings.model_validate_json(tried.settings)
        except ValidationError:
            raise Unusable(
                ("the program on the disk is another version than the one that runs; use: sallyport reload --exec",)
            ) from None
        planned = change(supervisor.settings, settings)
        said = [*self._kept(tried.kept), f"changed: {', '.join(planned.sections) or 'nothing'}"]
        said += await supervisor.replace(planned.settings, issuer=planned.issuer)
        return [*said, *self._in_force(tried.roots)]

    async def _rehearse(self, *, program: bool) -> Rehearsed:
        supervisor = self._supervisor
        question = Question(supervisor.settings.model_dump_json(), program)
        return await rehearse(supervisor.program.rehearse, question, supervisor.account)

    def _kept(self, names: tuple[str, ...]) -> list[str]:
        reason = "it cannot change while the daemon runs, and keeps its value until the next start"
        for name in names:
            self._supervisor.log.event(WARNING, "setting kept", setting=name, reason=reason)
        return [f"{name}: {reason}" for name in names]

    def _in_force(self, roots: dict[str, str]) -> list[str]:
        """Other settings are in force: what follows for files. What fails here is said, and no reason to go back."""
        supervisor = self._supervisor
        settings = supervisor.settings
        said = []
        supervisor.log.apply(settings.log)
        try:
            supervisor.program.publish(roots)
        except OSError as error:
            said.append(str(error))
        try:
            supervisor.log.write_to(settings.log.file)
        except OSError as error:
            said.append(f"log.file: {settings.log.file} cannot be opened by the supervisor: {error.strerror}")
        for problem in said:
            supervisor.log.event(ERROR, "file not written", reason=problem)
        return said

    async def _scripts(self) -> list[str]:
        """The settings are as they were: the workers load their inspectors and bypass lists again, in place."""
        supervisor = self._supervisor
        settings = supervisor.settings
        there = {
            "inspectors": settings.inspection.addons,
            "bypass lists": settings.bypass.files,
            "htpasswd files": paths_of(settings.listeners),
        }
        if not any(there.values()):
            return ["nothing differs from the settings in force"]
        asked = [child for child in supervisor.workers if child.runs and child.ready.is_set()]
        for child in asked:
            child.tell(RELOAD)
        answers = await asyncio.gather(*(self._answer(child) for child in asked))
        failed = [child.name for child, answer in zip(asked, answers, strict=True) if answer != RELOADED]
        if failed:
            raise Unusable((f"what could not be loaded again stays as it was ({', '.join(failed)}); the log says why",))
        what = " and ".join(name for name, entries in there.items() if entries)
        return [f"nothing differs from the settings in force; {len(asked)} workers loaded their {what} again"]

    async def _answer(self, child: Child) -> bytes:
        if child.control is None:
            return b""
        try:
            async with asyncio.timeout(SCRIPTS_SECONDS):
                return await asyncio.get_running_loop().sock_recv(child.control, 1)
        except (OSError, TimeoutError, ValueError):  # ValueError: it died, and its socket was closed meanwhile
            return b""

    # --- upgrade ---

    async def _upgrade(self, began: float) -> list[str]:
        """Try the program on the disk, and execute it in the place of this one. Returns only where that failed."""
        supervisor = self._supervisor
        tried = await self._rehearse(program=True)
        said = tuple(self._kept(tried.kept))
        supervisor.log.event(INFO, "executing", program=supervisor.program.execute[0])
        # From here on signals wait, and nothing runs beside us: what came before is seen to in the next rounds.
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
        supervisor.log.stop()  # what is not written yet would be lost
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if supervisor.stopping.is_set():
                raise StartError("the daemon is stopping")
            if "reload" in self._asked:
                os.kill(os.getpid(), signal.SIGHUP)  # for the next program
            handover = Handover(
                pid=os.getpid(),
                began=began,
                settings=supervisor.settings.model_dump_json(),
                wanted=tried.settings,
                said=said,
                roots=tried.roots,
                lock=supervisor.held,
                issuing=supervisor.issuing,
                sockets=tuple(listening.fileno() for _, listening in supervisor.sockets),
                children=supervisor.handed(),
                monitoring=supervisor.monitoring.fileno() if supervisor.monitoring is not None else None,
                console=supervisor.managing.fileno() if supervisor.managing is not None else None,
                ledger=supervisor.ledger.fd if supervisor.ledger is not None else None,
                relayed=tuple(taking.fileno() for _, taking in supervisor.relayed),
            )
            self._execute(handover)
        except OSError as error:
            raise StartError(f"the program cannot be executed: {error.strerror}") from None
        finally:
            supervisor.log.start(asyncio.get_running_loop().call_later)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
        return []

    def _execute(self, handover: Handover) -> None:
        """Become the next program. Raises OSError; then all is as before."""
        supervisor = self._supervisor
        fd = pack(handover)
        for each in handover.descriptors:
            os.set_inheritable(each, True)
        program = supervisor.program.execute
        try:
            with raised(supervisor.account):
                os.execve(program[0], program, os.environ | {VARIABLE: str(fd)})  # noqa: S606 - our own command line
        finally:
            for each in handover.descriptors:
                os.set_inheritable(each, False)
            os.close(fd)

    async def _taken_over(self, handover: Handover) -> list[str]:
        """In the next program: have processes of it take over from those of the one before."""
        settings = Settings.model_validate_json(handover.wanted)
        try:
            said = await self._supervisor.replace(settings, issuer=True, program=True)
        except StartError as error:
            raise StartError(f"{error}. This program runs, and the processes of the one before it go on") from None
        return [*handover.said, "the program was replaced", *said, *self._in_force(handover.roots)]
