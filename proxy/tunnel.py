"""From the CONNECT to two legs that are up: ClientHello, server leg, verdict, leaf, client leg.

The server is judged first. Only when the verdict allows it does the client get a leaf with the server behind it; where
the verdict or anything else forbids it, the client gets an answer of ours over its own TLS, and the server nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from OpenSSL import SSL

from certs.failures import defect_of_failure, wants_certificate
from certs.names import Host, InvalidHost, parse_host
from certs.verdict import Action, Defect, Verdict
from certs.verify import handshake_of
from issuer.client import IssuerUnavailable
from proxy import refusals
from proxy.block import Refusal
from proxy.client_hello import BadClientHello, ClientHello, HelloReader, NotTls, alert_record
from proxy.lanes.answer import HTTP_PROTOCOLS, AnswerLane
from proxy.lanes.fast import FastLane
from proxy.lanes.splice import TLS_HANDSHAKE, SpliceLane
from proxy.leaves import DAY, Shown
from proxy.log import INFO, WARNING
from proxy.session import Session, State, Unhurried
from proxy.tls_leg import LegError, TlsLeg
from proxy.upstream import NOBODY, READ_LIMIT, DialError, ServerLeg, dial

ALERT_ACCESS_DENIED = 49
ALERT_INTERNAL_ERROR = 80
ALERT_UNRECOGNIZED_NAME = 112
HTTP_OR_NONE = (b"", *HTTP_PROTOCOLS)
"""Protocols of which an inspector can see something."""
AGAIN_SECONDS = 0.05
"""After which a leaf is asked for again that another CA than the active one has signed."""
BAD_DATES = frozenset({Defect.EXPIRED, Defect.NOT_YET_VALID, Defect.MALFORMED})


class Tunnel(Unhurried):
    """The phase between the CONNECT and the lane; owner of the server leg until the lane takes it over."""

    __slots__ = (
        "asked", "buffer", "busy", "early", "ends", "errors", "half", "hello", "host", "leg", "not_after", "port",
        "raw", "reader", "refusal", "server", "session", "stapled", "target", "untrusted", "why",
    )  # fmt: skip

    def __init__(self, session: Session, target: Host, port: int) -> None:
        self.session = session
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
        """The server has asked for a client certificate."""
        self.stapled = b""
        """The OCSP answer that it has sent along."""
        self.hello: ClientHello | None = None
        self.server = ServerLeg(self)
        self.ends: list[bool] = []
        """How the server has ended already: with close_notify (True), with FIN (False)."""
        self.leg: TlsLeg | None = None
        self.refusal: Refusal | None = None
        self.busy = True
        self.half = False
        self.why = "client handshake: it was not finished"
        self.untrusted = False
        """The client is to be warned: its leaf is of the untrusted CA."""
        self.not_after: float | None = None
        """The end that a leaf may have at the latest, where the server has good dates."""

    # --- TCP to the server ---

    def dial(self, addresses: Sequence[str]) -> None:
        """Open the connection to the server."""
        self.session.run(self._dial(addresses))

    async def _dial(self, addresses: Sequence[str]) -> None:
        session = self.session
        try:
            _, session.facts["address"] = await dial(
                addresses, self.port, lambda: self.server, session.worker.limits.connect_timeout
            )
        except DialError as error:
            if session.state is State.PASS:
                return session.close(str(error))
            refusal = refusals.unreachable(error.error, self.target.text, self.port, session.id, str(error))
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
        if session.state is State.HELLO:
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
        if session.worker.settings.tunnel.non_tls == "pass":
            return self._splice()
        if b"A" <= self.buffer[:1] <= b"Z":
            # It may be HTTP: then somebody can read why.
            return session.say(refusals.not_tls(self.target.text, session.id))
        return session.close("not TLS")

    def _splice(self) -> None:
        if self.refusal is not None:
            return self.session.close(self.refusal.title)
        lane = SpliceLane(self.session, self.server, self.target.text, bytes(self.buffer))
        self.server.owner = lane
        self.session.to(State.PASS, 0, lane)
        return lane.begin(bytes(self.raw))

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
            session.facts["client_certificate"] = "none" if tls.identity is None else "shown"
            session.log(INFO, "server asks for a certificate", host=host.text, port=self.port,
                        answer=session.facts["client_certificate"])  # fmt: skip
        handshake = handshake_of(server.leg.tls, self)
        made = judge.made
        if (verdict := judge.at_once(handshake, host, snapshot)) is not None:
            return self._judged(verdict, "kept" if judge.made == made else "judged")

        # The handshake was in time. What may still have to be fetched has a time of its own.
        session.deadline = max(session.deadline, session.loop.time() + judge.seconds)

        async def elsewhere() -> None:
            self._judged(await judge.elsewhere(handshake, host, snapshot), "judged")

        return session.run(elsewhere())

    def _judged(self, verdict: Verdict, source: str) -> None:
        session = self.session
        if session.state is not State.SERVER:
            return
        if self.asked and session.tenant.trust.at(self.host).tls.blocks_who_asks:
            verdict = Verdict.of([*verdict.findings, wants_certificate()], verdict.chain)
        action = session.tenant.errors.action_for(verdict.defects)
        if session.followed:
            session.stage("verdict", defects=[defect.value for defect in verdict.defects], action=action.value,
                          source=source, completed=verdict.completed or None)  # fmt: skip
        session.judged(verdict, action)
        if not verdict.ok:
            session.facts |= {"defects": [defect.value for defect in verdict.defects], "action": action.value}
        if action not in (Action.ALLOW, Action.WARN) or not verdict.chain:
            # Bypass cannot be set in this version: what is neither plainly allowed nor warned of is blocked.
            return self._unsuitable(refusals.certificate(verdict.findings, self.host.text, session.id))
        if not verdict.ok:
            session.log(INFO, "let through", host=self.host.text, port=self.port, defects=session.facts["defects"],
                        action=action.value)  # fmt: skip
        not_after: float | None = verdict.chain[0].not_valid_after_utc.timestamp()
        if BAD_DATES.intersection(verdict.defects):
            # A day, and no longer than the server's own where that is still to come.
            now = session.worker.wall()
            not_after = not_after if not_after is not None and now < not_after < now + DAY else None
        session.to(State.LEAF, session.worker.limits.leaf_timeout + 1)
        self.not_after = not_after
        self.untrusted = session.warned = action is Action.WARN
        return self._leaf()

    def server_refused(self, error: LegError) -> None:
        """TLS with the server failed: in its handshake, or just behind it (one who wants a client certificate, say)."""
        if self.session.state in (State.SERVER, State.LEAF, State.CLIENT):
            self._failed(error.reasons)
        else:
            self.session.abort(f"server TLS: {error}")

    def _failed(self, reasons: Sequence[str]) -> None:
        verdict = Verdict.of([defect_of_failure(reasons, self.asked)])
        self.session.judged(verdict, Action.BLOCK)
        self.session.facts["defects"] = [defect.value for defect in verdict.defects]
        self._unsuitable(refusals.certificate(verdict.findings, self.host.text, self.session.id))

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
        kind = "rsa" if snapshot.signing_ca_is_rsa and not self.hello.ecdsa else "ecdsa"
        if (shown := leaves.kept(snapshot, host, kind, server_not_after, self.untrusted)) is not None:
            return self._show(shown, "cache")
        return leaves.ask(snapshot, host, kind, server_not_after, self._answered, session.id, self.untrusted)

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
        if shown.signing_ca != current.ca(self.untrusted):
            # Another CA became the active one: issuer and worker hear of it within a quarter of a second of each other.
            session.snapshot = current
            session.loop.call_later(AGAIN_SECONDS, self._leaf_again)
            return None
        if session.followed:
            serial = f"{shown.certificate.get_serial_number():x}"
            session.stage("leaf", host=self.host.text, source=source, serial=serial)
        tls = shown.connection()
        first = bytes(self.buffer)
        self.buffer.clear()
        session.resume()
        if session.state is State.ANSWER:
            assert self.refusal is not None  # noqa: S101 - set with the state
            tls.set_app_data(HTTP_PROTOCOLS)
            session.has_taken("answer")
            lane = AnswerLane(session, TlsLeg(tls, session.client, accepting=True), self.refusal)
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
            self.why = f"client handshake: {error}"
            return session.close(self.why)
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
            inspection = InspectionLane(session, inspectors, host, self.port, leg)
            session.enters("inspection")
            session.to(State.OPEN, 0, inspection)
            return inspection.begin(server, bytes(self.early), self.ends, self.reader.message)
        session.has_taken("fast")
        lane = FastLane(session, leg, server, alpn, host)
        server.owner = lane
        session.to(State.OPEN, 0, lane)
        return lane.begin(bytes(self.early), self.ends)

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
        session, hello = self.session, self.hello
        session.refused(refusal)
        self._drop_server(orderly=True)
        assert hello is not None  # noqa: S101 - there is nothing to tell before it
        if hello.alpn and not any(protocol in hello.alpn for protocol in HTTP_PROTOCOLS):
            return self._alert(ALERT_ACCESS_DENIED, "refused")  # one who speaks no HTTP can read no page
        self.refusal = refusal
        limits = session.worker.limits
        waiting = session.state is State.LEAF
        session.to(State.ANSWER, limits.leaf_timeout + limits.tls_timeout)
        if self.leg is not None:
            session.has_taken("answer")
            session.phase = AnswerLane(session, self.leg, refusal)  # the client's handshake is under way already
        elif not waiting:
            self.not_after = None
            self.untrusted = False
            self._leaf()
        return None

    def ended(self) -> bool:
        """A client that half-closes before its handshake is through wants nothing."""
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


def _text(alpn: bytes) -> str:
    return alpn.decode("ascii", "replace")
