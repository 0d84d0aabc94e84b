"""The inspectors of a worker: scripts, their options and commands, and which of them sees what.

mitmproxy's master, options, commands and addon manager are there as addons know them (``ctx``), but no hook is called
through them: mitmproxy logs what an addon raises and goes on, which a gate must not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from mitmproxy import exceptions, hooks, http
from mitmproxy.addonmanager import Loader
from mitmproxy.addons import core, proxyserver
from mitmproxy.connection import Client
from mitmproxy.master import Master
from mitmproxy.options import Options

from certs.names import InvalidHost, parse_host
from config.settings import Inspection
from proxy.lanes.inspection.decoding import EXPANDED, bound
from proxy.lanes.inspection.hooks import Caller, Hook, Overdue
from proxy.lanes.inspection.patterns import HostPatterns, is_for
from proxy.lanes.inspection.retired import Retired
from proxy.lanes.inspection.scripts import (
    NEVER_CALLED,
    Script,
    ScriptError,
    load_module,
    members_of,
    name_of,
    said,
)
from proxy.lanes.inspection.streaming import watch
from proxy.log import DEBUG, ERROR, INFO, WARNING, Log

SILENT = ("asyncio", "hpack", "h2", "wsproto")
"""Libraries whose remarks are not for the log: hpack says every field, credentials too."""
KEPT_PLANS = 4096
LOAD_SECONDS = 60.0
"""A script that is loaded again while traffic flows has so long; nothing else is served meanwhile."""
STOP_SECONDS = 10.0
"""At the end, so long is waited for what scripts still do."""
LANE_OPTIONS: Mapping[str, Any] = {
    # The lane's own limits do what these would, for each flow and not for all.
    "stream_large_bodies": None,
    "body_size_limit": None,
    "store_streamed_bodies": False,
    "validate_inbound_headers": True,
    "normalize_outbound_headers": True,
    "http2_ping_keepalive": 0,  # the idle time ends connections; nothing keeps them from it
    "proxy_debug": False,
}
"""mitmproxy's options that the lane depends on; they cannot be configured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is called for the flows of one host and tenant."""

    hooks: Mapping[str, tuple[Hook, ...]]
    request_body: bool
    """Some inspector needs the whole body of requests."""
    response_body: bool
    scripts: tuple[Script, ...] = ()


NOTHING = Plan({}, False, False)


def planned(scripts: Sequence[Script]) -> Plan:
    """What is called of these scripts, in their order."""
    if not scripts:
        return NOTHING
    called: dict[str, list[Hook]] = {}
    for script in scripts:
        for member in script.members:
            for name, function in member.hooks.items():
                called.setdefault(name, []).append(Hook(script.name, name, function, script.settings, script))
    return Plan(
        {name: tuple(each) for name, each in called.items()},
        any(script.wants("request") for script in scripts),
        any(script.wants("response") for script in scripts),
        tuple(scripts),
    )


class Inspectors:
    """To be made and used on the event loop. ``log`` takes what they say and do wrong, ``failed`` counts the latter."""

    def __init__(
        self, settings: Inspection, log: Log, failed: Callable[[str, str], None] = lambda inspector, kind: None
    ) -> None:
        self.settings = settings
        self.log = log
        self.caller = Caller(log, failed)
        self.body_memory = settings.body_memory
        """Bytes of bodies that may still be buffered, over all flows."""
        self._hosts = _patterns("inspection.hosts", settings.hosts)
        self._scripts: list[Script] = []
        self._plans: LRUCache[tuple[str, ...], Plan] = LRUCache(KEPT_PLANS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: set[str] = set()
        self.options = Options()
        self.master = _Master(self.options)
        self._handler = _ToLog(log, self.caller)
        self._retired = Retired(self._tell)
        # mitmproxy's own addon manager never calls a hook of a script: the options must not, either.
        self.options.changed.connect(self._options_changed)
        loader = Loader(self.master)
        proxyserver.Proxyserver().load(loader)
        self.master.addons.add(core.Core())
        self.options.update(**LANE_OPTIONS)

    # --- loading ---

    def load(self) -> None:
        """Load every script and give it the options. Raises ScriptError for the first that cannot be used."""
        logging.getLogger().addHandler(self._handler)
        self.log.level_changed.append(_listen_to)
        _listen_to(self.log.level)
        for library in SILENT:
            logging.getLogger(library).setLevel(logging.WARNING)
        if reserved := sorted(LANE_OPTIONS.keys() & self.settings.options.keys()):
            raise ScriptError(f"inspection.options: {', '.join(reserved)} cannot be set; see body_limit and on_large")
        bound(self.settings.body_limit * EXPANDED)
        self._set_options()
        for settings in self.settings.addons:
            self._scripts.append(self._load(settings))
        if unknown := sorted(self.options.deferred):
            raise ScriptError(f"inspection.options: no inspector has an option {', '.join(unknown)}")
        for script in self._scripts:
            self._configure(script, set(self.options.keys()))

    def _set_options(self) -> None:
        try:
            self.options.update_defer(**self.settings.options)
        except (exceptions.OptionsError, TypeError, ValueError) as error:
            raise ScriptError(f"inspection.options: {error}") from error

    def _load(self, settings: Any) -> Script:
        hosts = _patterns(f"{settings.script}: hosts", settings.hosts)
        module = load_module(settings.script)
        # What is wrong with its hooks is said before any of them is called. Names are each script's own affair.
        for member in members_of(settings.script, module):
            self.master.addons.lookup.pop(_name_of(member.addon), None)
        try:
            self.master.addons.register(module)
        except BaseException as error:
            raise ScriptError(f"{settings.script}: load: {said(error, settings.script)}") from error
        # Once more: ``load`` may have added to them.
        script = Script(settings, name_of(settings.script), module, hosts, members_of(settings.script, module))
        if idle := sorted(name for name in NEVER_CALLED if script.has(name)):
            self.log.event(
                WARNING, "inspector hook is never called", inspector=script.name, hooks=idle,
                reason="connections, TLS and trust are not an inspector's here",
            )  # fmt: skip
        return script

    def _configure(self, script: Script, updated: set[str]) -> None:
        for hook in _own(script, "configure"):
            try:
                hook.function(updated)
            except BaseException as error:
                raise ScriptError(
                    f"{script.settings.script}: configure: {said(error, script.settings.script)}"
                ) from error

    def _options_changed(self, updated: set[str]) -> None:
        """An addon or a command has changed options: whoever asked hears of it (and may object, with OptionsError)."""
        for script in self._scripts:
            for hook in _own(script, "configure"):
                try:
                    self.caller.watched(hook, hook.function, updated)
                except exceptions.OptionsError:
                    raise
                except BaseException as error:
                    # Not the fault of the script that has changed them, whose hook this may be in.
                    self.caller.report(hook, error)
                    raise exceptions.OptionsError(f"{script.name} has failed over it") from error

    def start(self) -> None:
        """Everything is up: tell the scripts, and watch them from now on."""
        self.caller.start(asyncio.get_running_loop())
        for script in self._scripts:
            self._tell_own(script, "running")

    def reload(self) -> bool:
        """Load all scripts again, the configuration being the same; one that cannot be used stays as it was.

        Whether all of them could.
        """
        loaded = [self._reload(place) for place in range(len(self._scripts))]
        self._plans.clear()
        return all(loaded)

    def _reload(self, place: int) -> bool:
        old = self._scripts[place]
        self._remove(old)
        patient = old.settings.model_copy(update={"timeout": LOAD_SECONDS})
        try:
            new = self.caller.watched(Hook(old.name, "load", self._load, patient), self._load_again, old.settings)
        except (ScriptError, Overdue) as error:
            self._put_back(old)
            self.log.event(ERROR, "inspector not reloaded", inspector=old.name, reason=str(error))
            return False
        self._scripts[place] = new
        self._retired.add(old, tuple(_own(old, "done")))
        self._tell_own(new, "running")
        self.log.event(INFO, "inspector reloaded", inspector=new.name)
        return True

    def _load_again(self, settings: Any) -> Script:
        script = self._load(settings)
        self._configure(script, set(self.options.keys()))
        return script

    def _remove(self, script: Script) -> None:
        for member in script.members:
            if self.master.addons.lookup.get(_name_of(member.addon)) is member.addon:
                del self.master.addons.lookup[_name_of(member.addon)]

    def _put_back(self, script: Script) -> None:
        for member in script.members:
            self.master.addons.lookup[_name_of(member.addon)] = member.addon

    async def stop(self) -> None:
        """Tell the scripts that it is over, and wait for what they still do."""
        self._retired.stop()
        for script in self._scripts:
            self._tell_own(script, "done")
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=STOP_SECONDS)
        self.caller.stop()
        logging.getLogger().removeHandler(self._handler)

    def _tell_own(self, script: Script, event: str) -> None:
        for hook in _own(script, event):
            self._tell(hook)

    def _tell(self, hook: Hook) -> None:
        """Call a hook that no traffic depends on."""
        if (rest := self.caller.tell(hook)) is not None:
            self.run(rest)

    def run(self, work: Any) -> None:
        """Do something that nobody waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def first_time(self, what: str) -> bool:
        """Whether this is the first time: what every connection may bring is said once."""
        if what in self._said:
            return False
        self._said.add(what)
        return True

    # --- who sees what ---

    def inspects(self, tenant: str, host: str) -> bool:
        """Whether any inspector sees the traffic of the host (:attr:`certs.names.Host.text`) for the tenant."""
        return self.plan(tenant, host) is not NOTHING

    def inspects_tenant(self, tenant: str) -> bool:
        """Whether any inspector sees any traffic of the tenant."""
        return is_for(self.settings.tenants, tenant) and any(
            is_for(script.settings.tenants, tenant) for script in self._scripts
        )

    def plan(self, tenant: str, *hosts: str) -> Plan:
        """What is called for flows of the host, or of any of several; :data:`NOTHING` where no inspector sees them."""
        key = (tenant, *hosts)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._plan(tenant, hosts)
        return plan

    def _plan(self, tenant: str, hosts: Sequence[str]) -> Plan:
        named = [_known(host) for host in hosts]
        seen = [host for host in named if self._hosts.match(host)]
        if not seen or not is_for(self.settings.tenants, tenant):
            return NOTHING
        scripts = [
            script
            for script in self._scripts
            if is_for(script.settings.tenants, tenant) and any(map(script.hosts.match, seen))
        ]
        return planned(scripts)

    def unseen(self, plan: Plan, tenant: str, host: str) -> Plan:
        """What is called for flows of the host, without the scripts that the plan has already."""
        mine = self.plan(tenant, host)
        has = {script.settings.script for script in plan.scripts}  # by name: one may have been loaded again since
        return planned([script for script in mine.scripts if script.settings.script not in has])

    def together(self, plan: Plan, other: Plan) -> Plan:
        """What is called where both are for a flow, in the order of the configuration."""
        order = {settings.script: place for place, settings in enumerate(self.settings.addons)}
        return planned(sorted(plan.scripts + other.scripts, key=lambda script: order[script.settings.script]))

    def call(self, plan: Plan, event: hooks.Hook) -> Awaitable[None] | None:
        """Call those in the plan that are for the event; what to await, if anything. Raises InspectorFailed."""
        called = plan.hooks.get(event.name)
        return self.caller.call(called, event.args()) if called else None

    def watch_stream(self, plan: Plan, message: http.Message, client: Client) -> None:
        """See that a stream function that a script has set is called as a hook is."""
        if message.stream is not True and message.stream is not False:
            watch(self.caller, plan.hooks, message, self.settings.body_limit * EXPANDED, client)


def _listen_to(level: int) -> None:
    """What is below a level need not be made into text."""
    logging.getLogger().setLevel(logging.DEBUG if level <= DEBUG else logging.INFO)


class _Master(Master):
    """mitmproxy's master, as far as addons ask it for something. It runs no proxy and ends no process."""

    def shutdown(self) -> None:
        logging.getLogger(__name__).warning("an inspector asked to end the proxy, which it cannot")


class _ToLog(logging.Handler):
    """What inspectors (and mitmproxy) log, as events of the worker's log."""

    def __init__(self, log: Log, caller: Caller) -> None:
        super().__init__()
        self._log = log
        self._caller = caller

    def emit(self, record: logging.LogRecord) -> None:
        level = (
            ERROR
            if record.levelno >= logging.ERROR
            else WARNING
            if record.levelno >= logging.WARNING
            else (INFO if record.levelno >= logging.INFO else DEBUG)
        )
        if level >= self._log.level:
            message = record.getMessage()[:1000]  # which may be a script's code
            self._caller.ours(
                self._log.event, level, "inspector says", id=self._caller.connection(), logger=record.name,
                message=message,
            )  # fmt: skip


def _own(script: Script, event: str) -> Iterator[Hook]:
    """Hooks of a script's own life."""
    for member in script.members:
        if (function := member.hooks.get(event)) is not None:
            yield Hook(script.name, event, function, script.settings)


def _known(host: str) -> str:
    """A host as patterns know it, whoever has written it; nothing where it is none."""
    try:
        return parse_host(host).text if host else ""
    except InvalidHost:
        return ""


def _name_of(addon: Any) -> str:
    """What mitmproxy calls an addon."""
    return str(getattr(addon, "name", type(addon).__name__.lower()))


def _patterns(where: str, patterns: Iterable[str]) -> HostPatterns:
    try:
        return HostPatterns(patterns)
    except InvalidHost as error:
        raise ScriptError(f"{where}: {error}") from None
