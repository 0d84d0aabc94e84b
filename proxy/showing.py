"""Whether a server that asks for our client certificate is to be shown it: found out before its handshake goes on."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from OpenSSL import SSL

from certs.names import Host
from certs.trust import Collector
from certs.verdict import Action, Verdict
from certs.verify import Handshake, handshake_of
from proxy.snapshot import Snapshot

if TYPE_CHECKING:
    from proxy.upstream import Judge, ServerLeg


class Showing:
    """Of one handshake; called by OpenSSL each time that it could go on (:func:`certs.trust.note_request`).

    What passes may see the certificate: a server without a defect, or one whose defects are allowed. It is judged as it
    will be when the handshake is through. Where that takes long, or others have to be asked (who has a missing issuer,
    who revokes), the handshake waits, for no longer than whoever began it does.
    """

    def __init__(
        self, server: ServerLeg, seen: Collector, host: Host, snapshot: Snapshot, judge: Judge, client: Hashable = None
    ) -> None:
        self.against: Verdict | None = None
        """Why the server was not shown it."""
        self.handshake: Handshake | None = None
        """What it had shown by then."""
        self._server = server
        self._seen = seen
        self._host = host
        self._snapshot = snapshot
        self._judge = judge
        self._client = client
        self._found: Verdict | None = None

    def __call__(self, connection: SSL.Connection) -> bool | None:
        """Whether it may be shown; None: that is being found out, and the handshake goes on when it is known."""
        if self._server.waiting:
            return None
        judge, host, snapshot = self._judge, self._host, self._snapshot
        verdict = self._found
        if verdict is None:
            self.handshake = handshake = handshake_of(connection, self._seen)
            verdict = judge.at_once(handshake, host, snapshot)
            if verdict is None:
                self._server.wait_for(self._find_out(handshake))
                return None
        allowed = snapshot.errors.decide(verdict, host, judge.clock()).action is Action.ALLOW
        self.against = None if allowed and verdict.chain else verdict
        return self.against is None

    async def _find_out(self, handshake: Handshake) -> None:
        self._found = await self._judge.elsewhere(handshake, self._host, self._snapshot, self._client)
