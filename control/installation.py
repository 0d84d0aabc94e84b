"""One installation: its state directory, master key and database, opened together, and made on the first use."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509

from certs.bundle import to_pem
from config.settings import Settings
from control import audit_log, state_dir
from control.actor import ITSELF, Actor
from control.built_in import new_tenant
from control.errors import InstallationError, Missing, Refused
from control.names import storable
from kms.envelope import SealError, TenantKey
from kms.provider import KeyProvider
from kms.providers.local import MASTER_KEY_FILE, KeyFileError, LocalProvider
from store import changes, installation, signing_cas, tenants
from store.creation import file_lock
from store.engine import DATABASE_FILE, Connection, OutOfReach, Store, StoreError
from store.records import ChangeKind, Tenant

DEFAULT_TENANT = "default"
SETUP_LOCK_FILE = "setup.lock"
SETUP_SECONDS = 120.0
"""How long to wait for another process that sets the installation up. RSA keys take seconds."""


@dataclass(frozen=True)
class Installation:
    """What every use case works with. Holds no tenant's key: the provider unwraps one where it is needed."""

    store: Store
    provider: KeyProvider = field(repr=False)
    settings: Settings
    state_dir: Path
    name: str
    """The installation's random name, which its CAs carry."""
    actor: Actor = ITSELF
    """Who uses it, for the audit log."""
    seen: int | None = None
    """The generation of the tenant that whoever uses it had last looked at; None: who does not say."""
    trial: Connection | None = field(default=None, repr=False)
    """The transaction in which everything is done that is not to be saved (:meth:`trying`)."""

    def tenant_key(self, connection: Connection, tenant: Tenant) -> TenantKey:
        """The key that the tenant's secrets are sealed with. Raises Refused where it cannot be unwrapped."""
        try:
            return TenantKey(self.provider.unwrap(tenants.wrapped_key(connection, tenant.id), tenant.name))
        except SealError as error:
            raise Refused(f"the key of tenant {tenant.name} cannot be unwrapped: {error}") from None

    def acting(self, actor: Actor) -> Installation:
        """The same installation, used by somebody."""
        return replace(self, actor=actor)

    def having_seen(self, generation: int) -> Installation:
        """The same installation, used by somebody who knows the tenant as it was in that generation.

        A change raises Outdated where others changed the same thing after it.
        """
        return replace(self, seen=generation)

    @classmethod
    def open(cls, settings: Settings, now: datetime) -> Installation:
        """Open the installation of ``settings.state_dir``; on the first use make it, with the tenant ``default``.

        Several processes may do so at once: one sets it up, the others wait. Where one was killed in the middle, the
        next completes it. Raises InstallationError, with nothing changed.
        """
        folder = settings.state_dir
        state_dir.prepare(folder)
        try:
            return cls._open(settings, folder, now)
        except (StoreError, KeyFileError) as error:
            raise InstallationError(str(error), passing=isinstance(error, OutOfReach)) from error

    @classmethod
    def _open(cls, settings: Settings, folder: Path, now: datetime) -> Installation:
        database, key_file = folder / DATABASE_FILE, folder / MASTER_KEY_FILE
        # The key first, and never a new one beside a database: what is in there was sealed with the old one.
        if database.exists():
            provider = LocalProvider.open(key_file, create=False)
            store = Store.open(database, create=True)
            with _closed_on_error(store):
                if (name := _name(store)) is not None:
                    _check_master_key(store, provider, key_file)
                    return cls(store, provider, settings, folder, name)
            store.close()  # whoever made it was killed, or is at it still
        busy = f"{folder}: another process is still setting this installation up"
        with file_lock(folder / SETUP_LOCK_FILE, busy, SETUP_SECONDS):
            provider = LocalProvider.open(key_file, create=not database.exists())
            store = Store.open(database, create=True)
            with _closed_on_error(store):
                name = _name(store) or _set_up(store, provider, settings, now)
                _check_master_key(store, provider, key_file)
                return cls(store, provider, settings, folder, name)

    @classmethod
    def look(cls, settings: Settings) -> Self | None:
        """Open an installation that is there, to read from it, and change nothing: no file is made, nothing migrated.

        None where the database is one to be migrated first. Raises InstallationError where it cannot be used.
        """
        folder = settings.state_dir
        database, key_file = folder / DATABASE_FILE, folder / MASTER_KEY_FILE
        try:
            provider = LocalProvider.open(key_file, create=False)
            store = Store.look(database)
            if store is None:
                return None
            with _closed_on_error(store):
                _check_master_key(store, provider, key_file)
                return cls(store, provider, settings, folder, _name(store) or "")
        except (StoreError, KeyFileError) as error:
            raise InstallationError(str(error)) from error

    def tenants(self) -> tuple[Tenant, ...]:
        """Every tenant."""
        with self.store.reading() as connection:
            return tuple(tenants.listing(connection))

    @contextmanager
    def trying(self) -> Iterator[Self]:
        """The same installation for a change that is only tried: what is changed through it is seen through it alone.

        It is validated, refused and recorded as it would be, and at the end it is rolled back. For use cases that
        change the store and nothing else.
        """
        with self.store.undone() as connection:
            yield replace(self, trial=connection)

    @contextmanager
    def reading(self, tenant: str) -> Iterator[tuple[Connection, Tenant]]:
        """A connection that reads, and the tenant. Raises Refused where there is none of that name."""
        with nullcontext(self.trial) if self.trial is not None else self.store.reading() as connection:
            yield connection, self.tenant_named(connection, tenant)

    @contextmanager
    def changing(self, tenant: str) -> Iterator[tuple[Connection, Tenant]]:
        """A durable transaction, and the tenant. Raises Refused where there is none of that name."""
        with nullcontext(self.trial) if self.trial is not None else self.store.transaction(durable=True) as connection:
            yield connection, self.tenant_named(connection, tenant)

    def record(
        self,
        connection: Connection,
        tenant: Tenant,
        kind: ChangeKind,
        action: str,
        subject: str,
        before: object,
        after: object,
        now: datetime,
    ) -> int:
        """Announce a change and write it into the audit log, in its own transaction. Returns the new generation.

        ``tenant`` is as it was when the transaction began. ``action``: ``noun.verb``. ``before`` and ``after``: what it
        was and is, for JSON; None: there was nothing. Raises Outdated where others changed it (:meth:`having_seen`).
        """
        if self.seen is not None:
            audit_log.refuse_unseen(connection, tenant, action, subject, self.seen)
        generation = changes.announce(connection, tenant.id, kind, now)
        made = replace(tenant, generation=generation)
        audit_log.write(connection, self.actor, made, action, subject, before, after, now)
        return generation

    @contextmanager
    def reading_all(self) -> Iterator[Connection]:
        """A connection that reads what is no tenant's: accounts."""
        with nullcontext(self.trial) if self.trial is not None else self.store.reading() as connection:
            yield connection

    @contextmanager
    def changing_all(self) -> Iterator[Connection]:
        """A durable transaction that changes what is no tenant's: accounts."""
        with nullcontext(self.trial) if self.trial is not None else self.store.transaction(durable=True) as connection:
            yield connection

    def record_for_all(
        self, connection: Connection, action: str, subject: str, before: object, after: object, now: datetime
    ) -> None:
        """Write a change of what is no tenant's into the audit log. Nothing is announced: no working set has it."""
        audit_log.write(connection, self.actor, None, action, subject, before, after, now)

    def wipe(self) -> tuple[str, ...]:
        """Get destroyed keys off the disk, as far as that goes; in words, where their sealed copies may still be.

        The change that destroyed them is saved already, so nothing is raised.
        """
        try:
            wiped = self.store.checkpoint()
        except StoreError:
            wiped = False
        log = f"{self.store.path}-wal, until the next change that finds nobody reading"
        return (*(() if wiped else (log,)), *map(str, self.store.older_copies()))

    @staticmethod
    def tenant_named(connection: Connection, name: str) -> Tenant:
        """The tenant. Raises Refused where there is none of that name."""
        found = tenants.by_name(connection, name) if storable(name) else None
        if found is None:
            known = ", ".join(tenant.name for tenant in tenants.listing(connection)) or "none"
            raise Missing(f"there is no tenant {name!r}; tenants: {known}")
        return found

    def close(self) -> None:
        """Close the database."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def root_file(inst: Installation, tenant: str) -> Path:
    """Where the tenant's root certificate is published."""
    return inst.state_dir / "certs" / f"{tenant}-root.pem"


def publish_root(inst: Installation, tenant: str) -> Path:
    """Write the root certificate of the tenant's active signing CA (PEM, 0600), and say where.

    Raises Refused where there is no such tenant; InstallationError where the file cannot be written.
    """
    path, written = root_file(inst, tenant), ""
    # Two who activate at once both write; whoever reads the later one's last has the last word.
    while (pem := root_pem(inst, tenant)) != written:
        write_root(path, pem)
        written = pem
    return path


def root_pem(inst: Installation, tenant: str) -> str:
    """The root certificate of the tenant's active signing CA. Raises Refused as :func:`publish_root`."""
    with inst.reading(tenant) as (connection, found):
        active = signing_cas.active(connection, found.id)
    assert active is not None  # noqa: S101 - the database has one for every tenant
    return to_pem([x509.load_der_x509_certificate(active.chain[-1])])


def write_root(path: Path, pem: str) -> None:
    """Write a root certificate where it is published. Raises InstallationError."""
    try:
        state_dir.write(path, pem.encode("ascii"))
    except OSError as error:
        raise InstallationError(f"{path}: the root certificate cannot be written: {error.strerror}") from None


@contextmanager
def _closed_on_error(store: Store) -> Iterator[None]:
    try:
        yield
    except BaseException:
        store.close()
        raise


def _name(store: Store) -> str | None:
    """The installation's name; None where it was not set up to its end."""
    with store.reading() as connection:
        return installation.name(connection)


def _set_up(store: Store, provider: KeyProvider, settings: Settings, now: datetime) -> str:
    """Save the installation's name and the first tenant, in one transaction."""
    name = secrets.token_hex(8)
    tenant = new_tenant(provider, DEFAULT_TENANT, name, now, settings.signing.built_in)
    with store.transaction(durable=True) as connection:
        installation.create(connection, name, now)
        tenant.save(connection, ITSELF, now)
    return name


def _check_master_key(store: Store, provider: KeyProvider, key_file: Path) -> None:
    """Raise InstallationError where the master key is not the one that wrapped this database's keys."""
    with store.reading() as connection:
        known = tenants.listing(connection)
        if not known:
            return
        wrapped = tenants.wrapped_key(connection, known[0].id)
    try:
        provider.unwrap(wrapped, known[0].name)
    except SealError:
        raise InstallationError(
            f"{key_file}: this master key is not the one of the database {store.path}; restore both from one backup"
        ) from None
