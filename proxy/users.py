"""Users of the proxy: whose are a name and a password. What ways in ask whose clients say who they are.

To verify a password is expensive on purpose, so it is done in a thread of its own, clients by turns, and what was
verified is remembered for a while, under a hash of it that only this process can make. Guessing is slowed
(:mod:`proxy.guesses`). A name that nobody has costs what another costs.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from cachetools import LRUCache, TTLCache

from config.passwords import DECOY, matches, normal
from config.settings import Listener
from issuer.joined import Joined
from proxy.guesses import Guesses
from proxy.ledger import client_key
from proxy.snapshot import Snapshot
from proxy.turns import Turns

if TYPE_CHECKING:
    from proxy.session import Session

KEPT = 10_000
"""Pairs of name and password that are remembered, and clients from which a user has come before."""
KEPT_SECONDS = 300.0
MOST_WAITING = 1000
"""Passwords that wait to be verified, of a worker; more are refused, since nobody would wait for them."""
BUSY_SECONDS = 5.0
CHECK_SECONDS = 30.0
"""For how long a client waits at most to have its password verified."""


@dataclass(frozen=True, slots=True)
class Login:
    """A user whose password was verified, and by which hash."""

    tenant: str
    name: str
    hashed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of credentials. ``login``: who it is; None: nobody, or it was not looked at and is not for ``wait``."""

    login: Login | None = None
    wait: float = 0.0
    """Seconds for which there may be no other guess; 0: the name or the password is wrong."""
    named: tuple[str, str] | None = None
    """Tenant and name of a user that there is, whatever the password: for the log."""


class Users:
    """Of one worker. Used on the event loop alone, but for what it hands to its thread."""

    def __init__(
        self,
        snapshots: Callable[[], Mapping[str, Snapshot]],
        file: Callable[[str], Mapping[str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``snapshots``: the working sets of now. ``file``: what an htpasswd file holds now, hashes by name."""
        self._snapshots = snapshots
        self._file = file
        self._key = os.urandom(32)
        self._verified: TTLCache[bytes, bool] = TTLCache(KEPT, KEPT_SECONDS, timer=clock)
        self._known: LRUCache[Hashable, bool] = LRUCache(KEPT)
        """Users with the clients from which they have come: who guesses a user's password keeps it not from coming."""
        self._guesses = Guesses(clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passwords")
        self._turns: Turns[Hashable] = Turns()
        self._joined: Joined[Hashable, Checked] = Joined()
        self._waiting = 0

    def close(self) -> None:
        """Verify no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def verify(self, listener: Listener, name: str, password: str, client: str) -> str | None:
        """The tenant of the user; None where name or password is wrong, or too many were before.

        ``client`` is its address. On a listener without ``authentication`` nobody is a user. A way in that goes on with
        a session asks :meth:`check`, gives the session its ``login``, and has it find out whose it is
        (:meth:`proxy.session.Session.belongs`): so the user is in the log, and out when it is deleted.
        """
        found = (await self.check(listener, name, password, client)).login
        return None if found is None else found.tenant

    def at_once(self, listener: Listener, name: str, password: str) -> Login | None:
        """Who it is, where that was verified lately."""
        tenant, user = self._who(listener, normal(name))
        hashed = self.hash_of(listener, tenant, user)
        if hashed is None or self._proof(tenant, user, hashed, normal(password)) not in self._verified:
            return None
        return Login(tenant, user, hashed)

    async def check(self, listener: Listener, name: str, password: str, client: str) -> Checked:
        """What came of the credentials. It may take as long as others wait for theirs."""
        if listener.authentication is None:
            return Checked()
        if (login := self.at_once(listener, name, password)) is not None:
            return Checked(login)
        tenant, user = self._who(listener, normal(name))
        proof = self._proof(tenant, user, self.hash_of(listener, tenant, user), normal(password))
        try:
            address = client_key(client)
        except OSError:
            address = b""
        work = partial(self._check, listener, tenant, user, normal(password), address)
        return await self._joined.run((proof, listener.name, address), work)

    async def _check(self, listener: Listener, tenant: str, user: str, password: str, address: bytes) -> Checked:
        hashed = self.hash_of(listener, tenant, user)
        named = None if hashed is None else (tenant, user)
        pair: Hashable = (tenant, user, address)
        keys: tuple[Hashable, ...] = (address, (tenant, user)) if pair not in self._known else (pair,)
        if (wait := self._guesses.begin(*keys)) > 0:
            return Checked(wait=wait, named=named)
        if self._waiting >= MOST_WAITING:
            self._guesses.take_back(*keys)
            return Checked(wait=BUSY_SECONDS, named=named)
        against = self._decoy(listener, tenant, user) if hashed is None else hashed
        self._waiting += 1
        try:
            async with self._turns.turn(address):
                loop = asyncio.get_running_loop()
                right = await loop.run_in_executor(self._thread, matches, against, password)
        finally:
            self._waiting -= 1
        # It may have been deleted or have got another password meanwhile.
        if not right or hashed is None or self.hash_of(listener, tenant, user) != hashed:
            return Checked(named=named)
        self._guesses.take_back(*keys)
        self._known[pair] = True
        self._verified[self._proof(tenant, user, hashed, password)] = True
        return Checked(Login(tenant, user, hashed), named=named)

    # --- who there is ---

    def hash_of(self, listener: Listener, tenant: str, user: str) -> str | None:
        """The hash of the user's password as it is now; None: there is no such user."""
        snapshot, authentication = self._snapshots().get(tenant), listener.authentication
        if snapshot is None or authentication is None or tenant not in authentication.tenants:
            return None
        found = snapshot.users.get(user)
        for path in authentication.files(tenant) if found is None else ():
            if (found := self._file(path).get(user)) is not None:
                break
        return found

    def gone(self, sessions: Iterable[Session]) -> list[Session]:
        """Those whose users are there no more, or have other passwords: what their clients said holds no longer."""
        found = [(session, session.login) for session in sessions]
        return [
            session
            for session, login in found
            if login is not None and self.hash_of(session.listener, login.tenant, login.name) != login.hashed
        ]

    def _who(self, listener: Listener, name: str) -> tuple[str, str]:
        """Tenant and user that a name stands for. Of several tenants, the name says which: NAME@TENANT."""
        tenants = listener.authentication.tenants if listener.authentication is not None else ()
        user, at, tenant = name.rpartition("@")
        if at and tenant in tenants:
            return tenant, user
        return (tenants[0] if len(tenants) == 1 else ""), name

    def _proof(self, tenant: str, user: str, hashed: str | None, password: str) -> bytes:
        text = repr((tenant, user, hashed, password)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()

    def _decoy(self, listener: Listener, tenant: str, user: str) -> str:
        """What is compared with for a name that nobody has: another user's hash, always the same one for that name.

        So it takes as long as it would if there were such a user, whatever kinds of hashes there are.
        """
        authentication = listener.authentication
        hashes: list[str] = []
        for each in (tenant,) if tenant else authentication.tenants if authentication is not None else ():
            snapshot = self._snapshots().get(each)
            hashes += snapshot.users.values() if snapshot is not None else ()
            for path in authentication.files(each) if authentication is not None else ():
                hashes += self._file(path).values()
        chosen = int.from_bytes(self._proof(tenant, user, None, "")[:8])
        return hashes[chosen % len(hashes)] if hashes else DECOY
