"""One worker's connection: frames in, frames out, and how much of it at once.

A worker parses strangers' bytes, so it is trusted with leaves and leaf keys but not with asking without end: its
requests per second and its requests in flight are bounded, and bytes that are no request end its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol

from issuer.errors import Refusal
from issuer.events import log_event
from issuer.issuing import Issuance, Wanted
from issuer.protocol import (
    Answer,
    CheckRequest,
    Code,
    Failure,
    FrameReader,
    KeyManagerRequest,
    LeafKeyRequest,
    LeafRequest,
    ProtocolError,
    Request,
    WireGuardKeyRequest,
    decode_request,
    encode_answer,
)
from issuer.sockets import is_ours, peer_uid
from kms.bucket import Bucket
from store.engine import StoreError

MOST_IN_FLIGHT = 1000
"""Requests of one connection that wait for an answer. Beyond it nothing is read until one is answered."""
OUR_FAULTS = frozenset({Code.STORE_UNAVAILABLE, Code.KEY_UNAVAILABLE, Code.SIGNING_FAILED, Code.INTERNAL})
"""What the operator has to see to."""
MOST_GATHERED = 64
"""Answers that are put together into one write."""
QUIET_SECONDS = 1.0
"""At most one line in this time about requests that failed: under load there would be hundreds."""


def _asked_again(request: Request, code: Code) -> bool:
    """Whether the workers ask it every two seconds, and the supervisor says it, once a day (proxy.expiry_watch)."""
    return isinstance(request, CheckRequest) and code is Code.KEY_UNAVAILABLE


class Peers(Protocol):
    """What keeps the connections together: the service."""

    def joined(self, connection: Connection) -> None: ...

    def left(self, connection: Connection) -> None: ...

    def may_sign(self, tenant: str) -> bool:
        """One more new leaf for the tenant, over all workers; False where it has had its share of this second."""


class Connection(asyncio.Protocol):
    """Reads requests and writes answers, in the order in which they are ready."""

    def __init__(self, peers: Peers, issuance: Issuance, rate: int, deadline: float) -> None:
        """``rate``: requests a second; ``deadline``: seconds that one may take."""
        self._peers = peers
        self._issuance = issuance
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(rate, self._loop.time)
        self._rate = rate
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._out: list[bytes] = []
        self._writing = True
        self._draining = False
        self._complained = float("-inf")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a stream server makes no other kind
        self._transport = transport
        uid = peer_uid(transport.get_extra_info("socket"))
        if not is_ours(uid):
            log_event("peer_refused", "warning", uid=uid)
            transport.abort()
            return
        self._peers.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for task in list(self._tasks):
            task.cancel()
        self._peers.left(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._take()

    def eof_received(self) -> bool:
        return False  # a worker that ends its side wants no more answers

    def pause_writing(self) -> None:
        self._writing = False

    def resume_writing(self) -> None:
        self._writing = True
        self._take()

    def drain(self) -> None:
        """Take no more requests; close once those in flight are answered."""
        self._draining = True
        if self._transport is not None:
            self._transport.pause_reading()
            self._close_if_drained()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def _take(self) -> None:
        """Begin as many requests as may be in flight; read on only where there is room for more."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._draining:
            return
        try:
            while self._writing and len(self._tasks) < MOST_IN_FLIGHT:
                frame = self._reader.next()
                if frame is None:
                    transport.resume_reading()
                    return
                self._begin(decode_request(frame))
        except ProtocolError as error:
            log_event("peer_garbage", "warning", problem=str(error))
            transport.abort()
            return
        transport.pause_reading()

    def _begin(self, request: Request) -> None:
        if not self._bucket.take():
            self._fail(request, Code.RATE_LIMITED, f"more than {self._rate} requests a second; try again")
            return
        if isinstance(request, LeafRequest):
            try:
                wanted = Wanted.by(request)
                answer = self._issuance.leaf_at_hand(wanted)
            except Refusal as refusal:
                self._fail(request, refusal.code, str(refusal))
                return
            if answer is not None:
                self._send(answer)
                return
            if not self._peers.may_sign(request.tenant):
                self._fail(request, Code.RATE_LIMITED, "more new leaves in a second than a tenant may have; try again")
                return
            work: Coroutine[None, None, Answer] = self._issuance.leaf(wanted)
        elif isinstance(request, KeyManagerRequest):
            return self._send(self._issuance.key_manager(request))
        elif isinstance(request, CheckRequest):
            work = self._issuance.check(request)
        elif isinstance(request, WireGuardKeyRequest):
            work = self._issuance.wireguard_key(request)
        else:
            work = self._issuance.leaf_key(request)
        # Eager: it gets as far as it can in this turn of the loop, so that it shares a commit with what came with it.
        task = asyncio.Task(self._answer(request, work), loop=self._loop, eager_start=True)
        if not task.done():
            self._tasks.add(task)

    async def _answer(self, request: Request, work: Coroutine[None, None, Answer]) -> None:
        try:
            async with asyncio.timeout(self._deadline):
                answer = await work
            self._send(answer)
        except Refusal as refusal:
            self._fail(request, refusal.code, str(refusal))
        except StoreError as error:
            self._fail(request, Code.STORE_UNAVAILABLE, str(error))
        except TimeoutError:
            # Whatever is waited for here is the store, or the key management service behind it.
            self._fail(request, Code.STORE_UNAVAILABLE, f"the store did not answer within {self._deadline:g} s")
        except Exception as error:  # noqa: BLE001 - told to the worker, and so to the operator
            # A fault of this program. The text of an exception that nobody foresaw could hold anything.
            self._fail(request, Code.INTERNAL, f"an error of the issuer's own: {type(error).__name__}")
        finally:
            was_full = len(self._tasks) >= MOST_IN_FLIGHT
            if (task := asyncio.current_task()) is not None:
                self._tasks.discard(task)
        if was_full:
            self._loop.call_soon(self._take)
        if self._draining:
            self._close_if_drained()

    def _fail(self, request: Request, code: Code, message: str) -> None:
        now = self._loop.time()
        if code in OUR_FAULTS and not _asked_again(request, code) and now - self._complained >= QUIET_SECONDS:
            self._complained = now
            connection = request.connection if isinstance(request, LeafRequest | LeafKeyRequest) else ""
            log_event("request_failed", "error", id=connection, tenant=request.tenant, code=code.value, message=message)
        self._send(Failure(request.id, code, message))

    def _send(self, answer: Answer) -> None:
        try:
            frame = encode_answer(answer)
        except ProtocolError as error:
            frame = encode_answer(Failure(answer.id, Code.INTERNAL, f"the answer cannot be sent: {error}"))
        # What is ready in the same round of the loop is written with one system call.
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)
        if len(self._out) >= MOST_GATHERED:
            self._flush()  # so that a worker which does not read is noticed before all its requests are answered

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None:
            self._transport.write(b"".join(out))

    def _close_if_drained(self) -> None:
        if self._tasks or self._transport is None:
            return
        self._flush()
        self._transport.close()
