"""From the CONNECT to two legs that are up: ClientHello, server leg, verdict, leaf, client leg.

The server is judged first. Only when the verdict allows it does the client get a leaf with the server behind it; where
the verdict or anything else forbids it, the client gets an answer of ours over its own TLS, and the server nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL

from certs.bypass import Matched
from certs.decision import Decision
from certs.failures import defect_of_failure, wants_certificate
from certs.names import Host, InvalidHost, parse_host
from certs.verdict import Action, Defect, Verdict
from certs.verify import Handshake, handshake_of
from issuer.client import IssuerUnavailable
from issuer.protocol import Code
from proxy import refusals
from proxy.block import Refusal
from proxy.bypass_lists import matching
from proxy.client_hello import BadClientHello, ClientHello, HelloReader, NotTls, alert_record
from proxy.head import begins_http
from proxy.lanes.answer import HTTP_PROTOCOLS, AnswerLane
from proxy.lanes.fast import FastLane
from proxy.lanes.forward import forward
from proxy.lanes.splice import TLS_HANDSHAKE, Bypass, SpliceLane
from proxy.leaves import DAY, Shown, key_type
from proxy.ledger import client_key
from proxy.log import DEBUG, INFO, WARNING
from proxy.parents import unreached
from proxy.pinning import Client, refuses_certificate
from proxy.reach import is_elsewhere
from proxy.reply import Says
from proxy.session import Judged, Session, State, Unhurried
from proxy.showing import Showing
from proxy.tls_leg import LegError, TlsLeg
from proxy.upstream import NOBODY, READ_LIMIT, DialError, ServerLeg
from proxy.verdict_trace import LONGEST_NAME

ALERT_ACCESS_DENIED = 49
ALERT_INTERNAL_ERROR = 80
ALERT_UNRECOGNIZED_NAME = 112
HTTP_OR_NONE = (b"", *HTTP_PROTOCOLS)
"""Protocols of which an inspector can see something."""
AGAIN_SECONDS = 0.05
"""After which a leaf is asked for again where another CA became the active one meanwhile."""
ASKS = "the server asks for a client certificate"
BAD_DATES = frozenset({Defect.EXPIRED, Defect.NOT_YET_VALID, Defect.MALFORMED})


class Tunnel(Unhurried):
    """The phase between the CONNECT and the lane; owner of the server leg until the lane takes it over."""

    __slots__ = (
        "asked", "buffer", "busy", "checking", "early", "ends", "errors", "half", "hello", "host", "leg",
        "not_after", "plain", "port", "raw", "reader", "refusal", "says", "server", "session", "showing", "shown",
        "stapled", "target", "warned_of", "why",
    )  # fmt: skip

    def __init__(self, session: Session, target: Host, port: int, plain: bool = False) -> None:
        """``plain``: what comes may be plain HTTP too."""
        self.session = session
        self.plain = plain
        self.target = target
        self.port = port
        self.host = target
        """The name to check: the server name asked for, else the CONNECT's host."""
        self.buffer = bytearray()
        self.reader = HelloReader(session.worker.limits.client_hello_bytes)
        self.early = bytearray()
        """What the server said, decrypted, before the client could be told."""
        self.raw = bytearray()
        """What it said before any TLS: never to be mixed with what came through TLS."""
        self.errors: list[tuple[int, int]] = []
        self.asked = False
        self.stapled = b""
        """The OCSP answer that it has sent along."""
        self.shown: Handshake | None = None
        """What it has shown, once that is known."""
        self.hello: ClientHello | None = None
        self.server = ServerLeg(self)
        self.checking: asyncio.Task[None] | None = None
        """Whether the address is the name's is being found out."""
        self.ends: list[bool] = []
        """How the server has ended already: with close_notify (True), with FIN (False)."""
        self.leg: TlsLeg | None = None
        self.refusal: Refusal | None = None
        self.says: Refusal | Says | None = None
        """What is answered over the client's TLS, once that is known: a refusal, or the proxy's own page."""
        self.busy = True
        self.half = False
        self.why = "client handshake: it was not finished"
        self.warned_of = ""
        """The server's certificate (SHA-256) where the client is to be warned: its leaf is of the untrusted CA."""
        self.showing: Showing | None = None
        """Of a server that asked for our client certificate: whether it is shown it."""
        self.not_after: float | None = None
        """The end that a leaf may have at the latest, where the server has good dates."""

    # --- TCP to the server ---

    def dial(self, addresses: Sequence[str]) -> None:
        """Open the connection to the server."""
        self.session.run(self._dial(addresses))

    async def _dial(self, addresses: Sequence[str]) -> None:
        session = self.session
        if (parent := session.worker.parents.of(session.tenant.tenant, self.target)) is not None:
            session.facts["parent"] = parent.address
        try:
            _, session.facts["address"] = await session.worker.parents.dial(
                session.tenant.tenant, self.target, self.port, addresses, self.server,
                session.worker.limits.connect_timeout,
            )  # fmt: skip
        except DialError as error:
            if session.state is State.PASS:
                return session.abort(str(error))  # the client has been told that the tunnel stands
            refusal = unreached(error, self.target.text, self.port, session.id)
            if session.state is State.SERVER:
                self._unsuitable(refusal)
            else:
                self.refusal = refusal  # said when there is a hello to answer

    # --- the client's side, until its leg is up ---

    def data(self, data: bytes) -> None:
        """Bytes of the client: its hello, its handshake, or something sent too early."""
        session = self.session
        if self.leg is not None:
            return self._client_handshake(data)
        self.buffer += data
        if session.state is State.HELLO and self.hello is None:
            return self._read_hello()
        if len(self.buffer) > session.worker.limits.client_hello_bytes:
            session.pause()
        return None

    def _read_hello(self) -> None:
        session = self.session
        try:
            self.hello = hello = self.reader.read(self.buffer)
        except NotTls:
            return self._not_tls()
        except BadClientHello as error:
            return self._alert(error.alert, f"client hello: {error}")
        if hello is None:
            return None
        try:
            named = parse_host(hello.server_name) if hello.server_name else None
        except InvalidHost as error:
            return self._alert(ALERT_UNRECOGNIZED_NAME, f"server name: {error}")
        if named is not None:
            self.host = named
            session.facts["host"] = named.text
            if not self.target.is_ip and named != self.target:
                return self.refuse(refusals.sni_mismatch(self.target.text, named.text, session.id))
        if self.host.text == session.worker.site.name:
            return self._answer(session.worker.site.to_tls(session))
        if named is not None and self.plain and session.worker.settings.tunnel.address_check != "off":
            session.deadline += session.worker.limits.resolve_timeout
            self.checking = asyncio.Task(self._check(named), loop=session.loop, eager_start=True)
            return None
        return self._go_on()

    async def _check(self, name: Host) -> None:
        """Go on where the address is one of the name's: before a bypass rule opens anything for that name."""
        session = self.session
        try:
            refusal = await is_elsewhere(session, name, self.target)
            if session.phase is self and session.state is State.HELLO:
                session.resume()
                if refusal is not None:
                    self.refuse(refusal)
                else:
                    self._go_on()
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection and no other
            session.broken(error)

    def _go_on(self) -> None:
        """What is asked for is known, and may be asked for there."""
        session = self.session
        if (rule := self._rule()) is not None:
            return self._bypass(Bypass(rule.rule, rule.file))
        if self.refusal is not None:
            return self._unsuitable(self.refusal)
        limits = session.worker.limits
        session.to(State.SERVER, limits.connect_timeout + limits.tls_timeout)
        if self.server.transport is not None:
            self.server_connected()
        return None

    def _alert(self, description: int, reason: str) -> None:
        self.session.client.write(alert_record(description))
        self.session.close(reason)

    def _not_tls(self) -> None:
        session = self.session
        if self.plain and (http := begins_http(self.buffer)) is not False:
            return self._forward() if http else None
        if self.target.text == session.worker.site.name:
            return session.close("neither TLS nor HTTP")  # and there is no server that would know better
        if session.worker.settings.tunnel.non_tls == "pass":
            return self._splice()
        if b"A" <= self.buffer[:1] <= b"Z":
            # It may be HTTP: then somebody can read why.
            return session.say(refusals.not_tls(self.target.text, session.id))
        return session.close("not TLS")

    def _forward(self) -> None:
        """Plain HTTP to a server that the client does not name in the first line."""
        session = self.session
        if self.refusal is not None and not session.worker.site.is_asked(session, self.buffer, origin=True):
            return session.say(self.refusal)
        self._drop_server(orderly=True)  # the lane has connections of its own, one after the other
        session.towards = (self.target, self.port)
        return forward(session, bytes(self.buffer))

    def _splice(self, bypass: Bypass | None = None) -> None:
        if self.refusal is not None:
            return self.session.close(self.refusal.title)
        host = self.target if bypass is None else self.host
        lane = SpliceLane(self.session, self.server, host.text, bytes(self.buffer), bypass)
        self.server.owner = lane
        if bypass is not None:
            self.session.enters("bypass")
        self.session.to(State.PASS, 0, lane)
        return lane.begin(bytes(self.raw))

    # --- what is not decrypted ---

    def _rule(self) -> Matched | None:
        """The bypass rule that covers what the client asks for, by the working set of now.

        Where the CONNECT names an address, that and the name asked for in the ClientHello count, as they do for
        everything else. An address there is no name (RFC 6066, section 3), and opens nothing.
        """
        session, worker = self.session, self.session.worker
        current = worker.snapshots.current.get(session.tenant.tenant)
        if current is None or worker.snapshots.outdated:
            return None  # which is seen to where the handshake with the server would begin
        hosts = (self.target,) if self.host == self.target or self.host.is_ip else (self.target, self.host)
        return matching(current.bypass, worker.bypass_lists, current.tenant, hosts, worker.clock)

    def _bypass(self, bypass: Bypass) -> None:
        """Pass on undecrypted all that the client has said and will say. To be called before it is shown a leaf.

        In the state HELLO, or SERVER: where the server has begun TLS with us, a new connection to its address is made.
        """
        if not self.server.begun:
            return self._splice(bypass)
        self._drop_server(orderly=True)
        self.server = ServerLeg(self)
        self._splice(bypass)
        return self.dial((self.session.facts["address"],))

    # --- the server's side ---

    def server_connected(self) -> None:
        """TCP stands; the handshake begins when the hello is known."""
        session, server, hello = self.session, self.server, self.hello
        if session.state is State.SERVER and hello is not None and not server.begun:
            # The working set of now: a connection may have waited, and a CA that was removed meanwhile counts no more.
            session.snapshot = session.worker.snapshots.current.get(session.tenant.tenant)
            if session.snapshot is None:
                return session.abort("the tenant is gone")
            if (refusal := session.outdated(self.host.text)) is not None:
                return self.refuse(refusal)
            if self.raw:
                return self._failed(("the server spoke before the handshake",))
            session.deadline = session.loop.time() + session.worker.limits.tls_timeout
            session.entered = session.loop.time()
            server.begin(session.tenant.trust.at(self.host), self.host, hello.alpn)
        return None

    def may_be_shown(self, connection: SSL.Connection) -> bool | None:
        """Our client certificate is for a server that is what it says: whoever only claims to be it learns nothing."""
        if self.showing is None:
            session = self.session
            client, judge = client_key(session.peer), session.worker.judge
            self.showing = Showing(self.server, self, self.host, session.tenant, judge, client)
        return self.showing(connection)

    def server_established(self) -> None:
        """The handshake is through: judge it."""
        session, server = self.session, self.server
        if session.state is not State.SERVER or server.leg is None:
            return
        session.worker.metrics.handshake("server", session.loop.time() - server.leg.started)
        host, snapshot, judge = self.host, session.tenant, session.worker.judge
        if session.followed:
            session.stage("server handshake", tls=server.leg.tls.get_protocol_version_name(),
                          group=server.leg.tls.get_group_name(),
                          alpn=_text(server.leg.tls.get_alpn_proto_negotiated()),
                          address=session.facts.get("address"))  # fmt: skip
        if self.asked:
            tls = snapshot.trust.at(host).tls
            session.facts["client_certificate"] = session.was_asked(tls, host.text, self.port)
        self.shown = handshake = handshake_of(server.leg.tls, self)
        made = judge.made
        if (verdict := judge.at_once(handshake, host, snapshot)) is not None:
            return self._judged(verdict, "kept" if judge.made == made else "judged")

        # The handshake was in time. What may still have to be fetched has a time of its own.
        session.deadline = max(session.deadline, session.loop.time() + judge.seconds)

        async def elsewhere() -> None:
            self._judged(await judge.elsewhere(handshake, host, snapshot, client_key(session.peer)), "judged")

        return session.run(elsewhere())

    def _judged(self, verdict: Verdict, source: str) -> None:
        session = self.session
        if session.state is not State.SERVER:
            return
        if self.asked and session.tenant.trust.at(self.host).tls.blocks_who_asks:
            verdict = verdict.also(wants_certificate())
        decision = session.tenant.errors.decide(verdict, self.host, session.worker.clock())
        action = decision.action
        self._remember(verdict, action, self.shown)
        session.judged(verdict, action, self._by(decision, source))
        if not verdict.ok:
            session.facts |= _told(verdict, action, decision)
        if action is Action.BYPASS:
            return self._bypass(Bypass(reason=", ".join(decision.by)))
        # Of a certificate that cannot be read nobody can be warned: it could be any other the next time.
        warned = action is Action.WARN and verdict.leaf is not None
        if not (action is Action.ALLOW or warned) or not verdict.chain:
            return self._unsuitable(refusals.certificate(verdict.findings, self.host.text, session.id, decision))
        if self._asks_and_passes():
            return self._bypass(Bypass(reason=ASKS))
        not_after: float | None = verdict.chain[0].not_valid_after_utc.timestamp()
        if BAD_DATES.intersection(verdict.defects):
            # A day, and no longer than the server's own where that is still to come.
            now = session.worker.wall()
            not_after = not_after if not_after is not None and now < not_after < now + DAY else None
        session.to(State.LEAF, session.worker.limits.leaf_timeout + 1)
        self.not_after = not_after
        if action is Action.WARN and verdict.leaf is not None:
            self.warned_of = session.warned_of = verdict.leaf.fingerprint(SHA256()).hex()
        return self._leaf()

    def server_refused(self, error: LegError) -> None:
        """TLS with the server failed: in its handshake, or just behind it (one who wants a client certificate, say)."""
        showing = self.showing
        if showing is not None and showing.against is not None and self.session.state is State.SERVER:
            return self._blocked(showing.against, showing.handshake)
        if self.session.state in (State.SERVER, State.LEAF, State.CLIENT):
            self._failed(error.reasons)
        else:
            self.session.abort(f"server TLS: {error}")

    def _failed(self, reasons: Sequence[str]) -> None:
        """There is no verdict on a certificate; before the client is shown one, it may do without us."""
        session, verdict = self.session, Verdict.of([defect_of_failure(reasons, self.asked)])
        if session.state is State.SERVER:
            decision = session.tenant.errors.decide(verdict, self.host, session.worker.clock())
            if decision.action is Action.BYPASS or self._asks_and_passes():
                session.judged(verdict, Action.BYPASS, self._by(decision))
                self._remember(verdict, Action.BYPASS, None)
                session.facts |= _told(verdict, Action.BYPASS, decision)
                return self._bypass(Bypass(reason=ASKS if self._asks_and_passes() else ", ".join(decision.by)))
        return self._blocked(verdict)

    def _asks_and_passes(self) -> bool:
        """The server asks for a client certificate, there is none, and the client is to reach it by itself."""
        return self.asked and self.session.tenant.trust.at(self.host).tls.bypasses_who_asks

    def _blocked(self, verdict: Verdict, shown: Handshake | None = None) -> None:
        session = self.session
        self._remember(verdict, Action.BLOCK, shown)
        decision = session.tenant.errors.decide(verdict, self.host, session.worker.clock())
        session.judged(verdict, Action.BLOCK, self._by(decision))
        session.facts |= _told(verdict, Action.BLOCK, decision)
        self._unsuitable(refusals.certificate(verdict.findings, self.host.text, session.id, decision))

    def _by(self, decision: Decision, source: str = "") -> Judged:
        return Judged(self.host, self.port, decision, self.server, source, self.asked)

    def _remember(self, verdict: Verdict, action: Action, shown: Handshake | None) -> None:
        """For a day it is known what was made of the server, where that is wanted."""
        session = self.session
        if (recent := session.worker.recent) is not None:
            snapshot = session.tenant
            recent.judged(snapshot.tenant, session.peer, self.host, self.port, shown, verdict, action, snapshot.trust)

    def server_data(self, data: bytes) -> None:
        """What the server says now is kept for the lane, up to a limit."""
        session = self.session
        if self.server.leg is not None:
            self.early += data
            if len(self.early) > READ_LIMIT:
                self.server.read(False)
            return
        self.raw += data
        passes = session.worker.settings.tunnel.non_tls == "pass"
        if session.state is State.HELLO and not self.buffer and passes and self.raw[0] != TLS_HANDSHAKE:
            self._splice()  # the server speaks first, so this is no TLS
        elif len(self.raw) > READ_LIMIT:
            self.server.read(False)

    def server_ended(self, orderly: bool) -> None:
        """The server will send no more; what it has said may be all that there was to say."""
        session = self.session
        if session.state is State.SERVER:
            self._unsuitable(refusals.connection_terminated(self.host.text, self.port, session.id))
        elif session.state is State.HELLO:
            self.refusal = refusals.connection_terminated(self.host.text, self.port, session.id)
        else:
            self.ends.append(orderly)

    def server_lost(self, error: Exception | None) -> None:
        """The connection is gone."""
        self.server_ended(False)

    def server_writable(self, writable: bool) -> None:
        """Nothing of size is written here."""

    # --- the leaf, and the client's handshake ---

    def _leaf(self) -> None:
        session, server_not_after = self.session, self.not_after
        leaves, snapshot, host = session.worker.leaves, session.tenant, self.host.text
        assert self.hello is not None  # noqa: S101 - known since the state SERVER
        kind = key_type(snapshot, self.hello.ecdsa)
        if (shown := leaves.kept(snapshot, host, kind, server_not_after, self.warned_of)) is not None:
            return self._show(shown, "cache")
        return leaves.ask(snapshot, host, kind, server_not_after, self._answered, session.id, self.warned_of)

    def _ask_again(self) -> None:
        """In a moment, for as long as the state's time limit lets it; the issuer may know more than this worker."""
        self.session.worker.snapshots.hurry()
        self.session.loop.call_later(AGAIN_SECONDS, self._leaf_again)

    def _leaf_again(self) -> None:
        if self.session.phase is self:
            self._leaf()

    def _answered(self, outcome: Shown | Exception) -> None:
        """The issuer has answered, or will not."""
        session = self.session
        if session.phase is not self:
            return  # the client did not wait
        try:
            if isinstance(outcome, Shown):
                self._show(outcome, "issuer")
            elif isinstance(outcome, IssuerUnavailable) and outcome.code == Code.UNKNOWN_LEAF_KEY:
                self._ask_again()  # another CA became the active one after the leaf was given, and before its key was
            elif isinstance(outcome, IssuerUnavailable):
                # Without a leaf there is no TLS to tell the client in.
                if outcome.code == "rate_limited":
                    session.worker.refuse_counted(
                        "leaves_per_second", id=session.id, tenant=session.tenant.tenant, client=session.shown,
                        host=self.host.text, reason=str(outcome),
                    )  # fmt: skip
                else:
                    session.log(WARNING, "no leaf", host=self.host.text, reason=str(outcome))
                self._alert(ALERT_INTERNAL_ERROR, f"no leaf: {outcome}")
            else:
                session.broken(outcome)
        except Exception as error:  # noqa: BLE001 - a fault of ours ends this connection; the others wait for their leaf
            session.broken(error)

    def _show(self, shown: Shown, source: str) -> None:
        session, server = self.session, self.server
        current = session.worker.snapshots.current.get(session.tenant.tenant)
        if current is None:
            return session.abort("the tenant is gone")
        if not shown.current(current, bool(self.warned_of)):
            # Another CA became the active one: issuer and worker hear of it within a quarter of a second of each other.
            session.snapshot = current
            return self._ask_again()
        # Where the server has defects, both chains are told of.
        faulty = bool(session.facts.get("defects"))
        if session.followed or faulty:
            session.stage(
                "leaf", level=INFO if faulty else DEBUG, host=self.host.text, source=source,
                serial=f"{shown.certificate.get_serial_number():x}", sha256=shown.sessions.hex(),
                issuer=shown.certificate.to_cryptography().issuer.rfc4514_string()[:LONGEST_NAME],
                signing_ca=None if self.warned_of else current.signing_ca_name, untrusted=bool(self.warned_of) or None,
            )  # fmt: skip
        tls = shown.connection()
        first = bytes(self.buffer)
        self.buffer.clear()
        session.resume()
        if session.state is State.ANSWER:
            assert self.says is not None  # noqa: S101 - set with the state
            tls.set_app_data(HTTP_PROTOCOLS)
            session.has_taken("answer")
            lane = AnswerLane(session, TlsLeg(tls, session.client, accepting=True), self.says)
            session.phase = lane
            lane.data(first)
        elif session.state is State.LEAF and server.leg is not None:
            towards = server.leg.tls
            alpn = towards.get_alpn_proto_negotiated()
            tls.set_app_data((alpn,) if alpn else ())
            if towards.get_protocol_version() < SSL.TLS1_3_VERSION:
                tls.set_options(SSL.OP_NO_TLSv1_3)  # never a newer version here than the server speaks
            self.leg = TlsLeg(tls, session.client, accepting=True)
            session.to(State.CLIENT, session.worker.limits.tls_timeout)
            self._client_handshake(first)
        return None

    def _client_handshake(self, data: bytes) -> None:
        session, leg, server = self.session, self.leg, self.server
        assert leg is not None  # noqa: S101 - set with the state
        assert server.leg is not None  # noqa: S101 - judged, so it is there
        try:
            if not leg.handshake(data):
                return
        except LegError as error:
            if any(refuses_certificate(reason) for reason in error.reasons):
                self._refused_by_client("alert")
            self.why = f"client handshake: {error}"
            return session.close(self.why)
        if not self.warned_of:
            session.worker.pinning.took(self._client(), self.host.text)
        session.worker.metrics.handshake("client", session.loop.time() - leg.started)
        alpn = server.leg.tls.get_alpn_proto_negotiated()
        session.facts |= {
            "server_tls": server.leg.tls.get_protocol_version_name(),
            "client_tls": leg.tls.get_protocol_version_name(),
            "server_group": server.leg.tls.get_group_name(),
            "client_group": leg.tls.get_group_name(),
            "alpn": _text(alpn),
        }
        if session.followed:
            session.stage("client handshake", tls=session.facts["client_tls"], group=session.facts["client_group"],
                          alpn=session.facts["alpn"])  # fmt: skip
        inspectors = session.worker.inspectors
        host = self.host.text
        if inspectors is not None and alpn in HTTP_OR_NONE and inspectors.inspects(session.tenant.tenant, host):
            from proxy.lanes.inspection.lane import InspectionLane

            session.has_taken("inspection")
            if self.target.is_ip:
                session.towards, session.asked = (self.target, self.port), host  # a further connection goes there, too
            inspection = InspectionLane(session, inspectors, host, self.port, leg)
            session.enters("inspection")
            session.to(State.OPEN, 0, inspection)
            return inspection.begin(server, bytes(self.early), self.ends, self.reader.message)
        session.has_taken("fast")
        lane = FastLane(session, leg, server, alpn, host)
        server.owner = lane
        session.to(State.OPEN, 0, lane)
        return lane.begin(bytes(self.early), self.ends)

    def _client(self) -> Client:
        session = self.session
        return Client(session.tenant.tenant, session.peer, session.shown)

    def _refused_by_client(self, how: Literal["alert", "closed"]) -> None:
        """The client does not take the leaf. One of the untrusted CA it is not to take."""
        session, host = self.session, self.host.text
        never = session.worker.log.never
        if not self.warned_of and not (never is not None and never.covers(host)):
            session.worker.pinning.refused(self._client(), host, how)

    # --- refusals, and the end ---

    def _unsuitable(self, refusal: Refusal) -> None:
        """The server is not to be had, or not to be trusted."""
        why = refusal.findings[0].explanation if refusal.findings else refusal.explanation
        self._tell_inspectors(why, client=False)
        self.refuse(refusal)

    def _tell_inspectors(self, reason: str, client: bool) -> None:
        """Inspectors that are for the host learn why there is nothing to inspect: whose fault it was."""
        inspectors, tenant, host = self.session.worker.inspectors, self.session.tenant.tenant, self.host.text
        if inspectors is None or not inspectors.inspects(tenant, host):
            return
        from proxy.lanes.inspection.connections import Failed, tell_failed

        failed = Failed.CLIENT if client else Failed.SERVER if self.server.begun else Failed.REACH
        tell_failed(
            self.session, inspectors, inspectors.plan(tenant, host), host, self.port, self.reader.message, self.server,
            failed, reason,
        )  # fmt: skip

    def refuse(self, refusal: Refusal) -> None:
        """Tell the client over its own TLS; the server gets nothing more."""
        self.session.refused(refusal)
        self._answer(refusal)

    def _answer(self, says: Refusal | Says) -> None:
        """Answer each of the client's requests over its own TLS; whatever there is of a server is let go."""
        session, hello = self.session, self.hello
        self._drop_server(orderly=True)
        assert hello is not None  # noqa: S101 - there is nothing to tell before it
        if hello.alpn and not any(protocol in hello.alpn for protocol in HTTP_PROTOCOLS):
            return self._alert(ALERT_ACCESS_DENIED, "refused")  # one who speaks no HTTP can read no page
        self.says = says
        limits = session.worker.limits
        waiting = session.state is State.LEAF
        session.to(State.ANSWER, limits.leaf_timeout + limits.tls_timeout)
        if self.leg is not None:
            session.has_taken("answer")
            session.phase = AnswerLane(session, self.leg, says)  # the client's handshake is under way already
        elif not waiting:
            self.not_after = None
            self.warned_of = ""
            self._leaf()
        return None

    def ended(self) -> bool:
        """A client that half-closes before its handshake is through wants nothing."""
        if self.leg is not None:
            self._refused_by_client("closed")
        self.session.close("client closed")
        return False

    def writable(self, writable: bool) -> None:
        """Nothing of size is written here."""

    def timed_out(self) -> None:
        """The server may be told of as too slow; a client that is gets nothing."""
        session = self.session
        if session.state is State.SERVER:
            return self._unsuitable(refusals.connection_timeout(self.host.text, self.port, session.id))
        return session.close(f"time limit: {session.state.name.lower()}")

    def closing(self, orderly: bool) -> None:
        """The connection ends here: let the server go."""
        if self.leg is not None:
            self._tell_inspectors(self.why, client=True)
        if self.checking is not None and self.checking is not asyncio.current_task(self.session.loop):
            self.checking.cancel()
        self._drop_server(orderly)
        self.buffer.clear()
        self.early.clear()

    def _drop_server(self, orderly: bool) -> None:
        session = self.session
        if session.task is not None and session.task is not asyncio.current_task(session.loop):
            session.task.cancel()
            session.task = None
        self.server.owner = NOBODY
        self.server.close(orderly)


def _told(verdict: Verdict, action: Action, decision: Decision) -> dict[str, object]:
    """What the log says of a verdict: the defects, what is done, and which setting decided about each."""
    return {"defects": [defect.value for defect in verdict.defects], "action": action.value, "by": decision.by}


def _text(alpn: bytes) -> str:
    return alpn.decode("ascii", "replace")
