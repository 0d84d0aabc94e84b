"""cut: ten thousand signatures over connections that are cut at random bytes. Each is right, or there is an error.

The key manager is reached as primary and as alternate, each through a relay of its own that cuts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from bench.kmip.managers import KEY_NAME, PyKmip
from bench.kmip.relay import Fate, Relay
from bench.kmip.stage import OTHER, Outcome, Stage, forwarding, say
from certs.signer import SigningError
from kms.kmip import operations
from kms.kmip.connection import Endpoint
from kms.kmip.errors import KmipError, Reason
from kms.kmip.pool import Pool, PoolLimits
from kms.kmip.signer import KmipSigner
from tests.kms.kmip.rig import HOST, SIGNING_KEY, at, identity_of, reach

LIMITS = PoolLimits(connections=4, queue=256, timeout=2.0, signatures=10_000)
CALLERS = 16
HASTY = 0.02
"""The share of callers that give up within a few milliseconds, whatever is under way."""
MEAN_BYTES = 30_000
"""A TLS handshake has some 3,000 in each direction, a signature some 1,000."""
PAUSE_SECONDS = 0.25
"""What a caller waits when there is nobody to ask."""
REMEMBERED = 2000
SLACK_SECONDS = 1.0


@dataclass
class Tally:
    """What came of the requests. ``wrong`` ones do not verify with what was asked; ``stale`` are another's."""

    asked: int = 0
    signed: int = 0
    wrong: int = 0
    stale: int = 0
    given_up: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0

    @property
    def lost(self) -> int:
        """Requests of which nothing was ever heard."""
        return self.asked - self.signed - self.wrong - self.stale - self.given_up - self.errors.total()


class Asking:
    """Callers that ask for signatures, until so many have come."""

    def __init__(self, pool: Pool, wanted: int, chance: random.Random) -> None:
        self.tally = Tally()
        self._pool = pool
        self._signer = KmipSigner(pool, KEY_NAME, SIGNING_KEY.public_key())
        self._wanted = wanted
        self._chance = chance
        self._identifier = ""
        self.before: deque[bytes] = deque(maxlen=REMEMBERED)

    async def run(self) -> None:
        """All of them."""
        while not self._identifier:
            with contextlib.suppress(KmipError):
                (self._identifier,) = await self._pool.ask(operations.locate_private_keys(KEY_NAME))
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                # Every second one asks the pool itself, where nobody but the caller looks at the signature.
                group.create_task(self._call(self._signer.signature if number % 2 else self._unverified))

    async def _unverified(self, data: bytes) -> bytes:
        return await self._pool.ask(operations.sign(self._identifier, self._signer.scheme, data))

    async def _call(self, sign: Callable[[bytes], Awaitable[bytes]]) -> None:
        tally = self.tally
        while tally.signed < self._wanted:
            tally.asked += 1
            data = b"%d " % tally.asked + self._chance.randbytes(self._chance.randrange(200, 1500))
            patience = self._chance.random() * 0.02 if self._chance.random() < HASTY else None
            began = time.monotonic()
            try:
                async with asyncio.timeout(patience):
                    signature = await sign(data)
            except TimeoutError:
                tally.given_up += 1
            except (KmipError, SigningError) as error:
                reason = reason_of(error)
                tally.errors[reason] += 1
                if reason == Reason.UNAVAILABLE.value:
                    await asyncio.sleep(PAUSE_SECONDS)
                    began += PAUSE_SECONDS
            else:
                self.look_at(signature, data)
            tally.longest = max(tally.longest, time.monotonic() - began)
            self.before.append(data)

    def look_at(self, signature: bytes, data: bytes) -> None:
        """Count the answer to a request for a signature of the data."""
        if verifies(signature, data):
            self.tally.signed += 1
        elif any(verifies(signature, other) for other in self.before):
            self.tally.stale += 1
        else:
            self.tally.wrong += 1


def verifies(signature: bytes, data: bytes) -> bool:
    """Whether it is the signature of the data."""
    try:
        SIGNING_KEY.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def reason_of(error: KmipError | SigningError) -> str:
    """What a metric would call it; a signer's own deadline is one, too."""
    cause = error if isinstance(error, KmipError) else error.__cause__
    return cause.reason.value if isinstance(cause, KmipError) else Reason.TIMEOUT.value


def cut(stage: Stage) -> Outcome:
    """Relays cut connections at random bytes in both directions, or hold back what comes until nobody waits for it."""
    seed = random.SystemRandom().randrange(10_000)
    wanted = stage.scaled(10_000, 1000)
    with PyKmip(stage.fresh_folder("kmip")) as manager:
        return asyncio.run(_cut(stage, manager.port, wanted, seed))


async def _cut(stage: Stage, port: int, wanted: int, seed: int) -> Outcome:
    outcome = Outcome("cut")
    chance = random.Random(seed)  # noqa: S311 - cuts that can be had again
    hold = LIMITS.timeout * 1.5
    async with contextlib.AsyncExitStack() as ending:
        relays: list[Relay] = []
        ends: list[Endpoint] = []
        for name in (HOST, OTHER):
            relays.append(await ending.enter_async_context(Relay(port, chance, MEAN_BYTES, hold)))
            if stage.forwarder:
                between = forwarding(stage.fresh_folder("forwarder"), relays[-1].port)
                forwarder = await asyncio.to_thread(ending.enter_context, between)
                relays.append(await ending.enter_async_context(Relay(forwarder.port, chance, MEAN_BYTES, hold)))
            ends.append(at(relays[-1].port, name))
        ours, theirs = stage.identity()
        pool = Pool(ends, reach(identity_of(ours, server_ca=theirs)), LIMITS, time.monotonic)
        pool.start()
        ending.callback(pool.stop)
        asking = Asking(pool, wanted, chance)
        began = time.monotonic()
        running = asyncio.ensure_future(asking.run())
        while not running.done():
            await asyncio.wait([running], timeout=30)
            say(f"  {time.monotonic() - began:5.0f} s: {asking.tally.signed} signed")
        await running
        seconds = time.monotonic() - began
    _judge(outcome, asking.tally, relays, seconds, seed)
    return outcome


def _judge(outcome: Outcome, tally: Tally, relays: list[Relay], seconds: float, seed: int) -> None:
    errors = ", ".join(f"{reason} {count}" for reason, count in tally.errors.most_common()) or "none"
    connections = sum(relay.connections for relay in relays)
    fates: Counter[Fate] = sum((relay.fates for relay in relays), Counter())
    told = ", ".join(f"{count} {fate}" for fate, count in fates.most_common())
    outcome.told += [
        f"{tally.signed} signed in {seconds:.0f} s over {connections} connections; {tally.asked} asked,"
        f" errors: {errors}; {tally.given_up} callers gave up; the longest waited {tally.longest:.2f} s (seed {seed})",
        f"connections cut: {told}; wrong {tally.wrong}, stale {tally.stale}, lost {tally.lost}",
    ]
    outcome.must(not tally.wrong, f"{tally.wrong} signatures of nothing that was asked")
    outcome.must(not tally.stale, f"{tally.stale} signatures of what was asked before")
    outcome.must(tally.lost == 0, f"{tally.lost} requests were lost without an error")
    most = LIMITS.timeout + SLACK_SECONDS
    outcome.must(tally.longest <= most, f"one waited {tally.longest:.2f} s, the deadline is {LIMITS.timeout:g} s")
    outcome.must(fates.total() >= tally.signed // 200, f"only {fates.total()} connections were cut")
