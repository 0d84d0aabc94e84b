"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for who has lost it.

A secret counts once a code of it was entered. A code is taken once: its time step, and those before, are used with it
(RFC 6238 5.2). Secrets are sealed as private keys are, with a key that is the installation's and wrapped by its KMS.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor import InvalidToken
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from control import accounts, due, tokens
from control.errors import Refused
from control.installation import Installation
from kms.envelope import SealError, TenantKey
from store import accounts as stored_accounts
from store import second_factors, sessions
from store.engine import Connection
from store.records import Account

SECRET_BYTES, DIGITS, STEP = 20, 6, 30
"""What every authenticator app knows; with SHA-1, as RFC 6238 5.1 has it (HMAC needs no collision resistance)."""
STEPS_OFF = 1
"""How many time steps a clock may be off (RFC 6238 6)."""
RECOVERY_CODES = 10
ISSUER = "Sallyport"
INSTALLATION = "@installation"
"""In place of a tenant's name, which cannot have an @: for whom this key is wrapped, and seals."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What an authenticator app is to be told, as text and as the URI that a QR code holds. Shown once."""

    secret: str = field(repr=False)
    uri: str = field(repr=False)


def begin(inst: Installation, name: str, now: datetime) -> Enrolment:
    """Make a secret for the account. It counts once :func:`confirm` has seen a code of it; until then the old one does.

    Raises Refused.
    """
    raw = secrets.token_bytes(SECRET_BYTES)
    with inst.changing_all() as connection:
        account = accounts.named(connection, name)
        key = _key(inst, connection, now)
        second_factors.begin(connection, account.id, key.seal(INSTALLATION, _purpose(account), raw))
    return Enrolment(base64.b32encode(raw).decode("ascii"), _totp(raw).get_provisioning_uri(name, ISSUER))


def confirm(inst: Installation, name: str, code: str, now: datetime, but: int | None = None) -> tuple[str, ...]:
    """Have the secret count from now on, since its code is right. Returns the recovery codes, which nobody sees again.

    The account's sessions end, all but the one of that id (``but``): they were begun without this factor, and where one
    is required, whoever knows the password alone must not be in with the other's doing. Raises Refused.
    """
    codes = tuple(tokens.readable() for _ in range(RECOVERY_CODES))
    with inst.changing_all() as connection:
        account = accounts.named(connection, name)
        pending = second_factors.of(connection, account.id).sealed_new
        if pending is None:
            raise Refused(f"account {name}: there is no second factor to be confirmed; begin again")
        step = _step_of(_open(inst, connection, account, pending, now), _typed(code), now)
        if step is None:
            raise Refused("the code is wrong; is the clock of the device right?")
        second_factors.confirm(connection, account.id, pending, step, [tokens.digest(_typed(one)) for one in codes])
        sessions.end_all(connection, account.id, but)
        made = accounts.named(connection, name)
        inst.record_for_all(connection, "admin.set_totp", name, accounts.told(account), accounts.told(made), now)
    return codes


def reset(inst: Installation, name: str, now: datetime, but: int | None = None) -> Account:
    """Take the second factor away, with the recovery codes, and end the account's sessions. Raises Refused.

    ``but``: all of them but the one of that id, in which somebody does it himself.
    """
    with inst.changing_all() as connection:
        account = accounts.named(connection, name)
        second_factors.reset(connection, account.id)
        sessions.end_all(connection, account.id, but)
        made = accounts.named(connection, name)
        inst.record_for_all(connection, "admin.reset_totp", name, accounts.told(account), accounts.told(made), now)
        return made


def remove(inst: Installation, name: str, now: datetime, but: int | None = None) -> Account:
    """:func:`reset` by who has it himself. Raises Refused where everybody has to have one, too."""
    if due.second_factor_required(inst.settings):
        raise Refused("a second factor is required here (console.second_factor); set another up in place of this one")
    return reset(inst, name, now, but)


def take(inst: Installation, connection: Connection, account: Account, code: str, now: datetime) -> bool:
    """Whether the code is right, of the app or of the recovery codes, and not used before. It is used with that."""
    factor, typed = second_factors.of(connection, account.id), _typed(code)
    if factor.sealed is None:
        return False
    if re.fullmatch(rf"[0-9]{{{DIGITS}}}", typed):
        step = _step_of(_open(inst, connection, account, factor.sealed, now), typed, now)
        return step is not None and second_factors.use_step(connection, account.id, step)
    if not second_factors.use_recovery_code(connection, account.id, tokens.digest(typed)):
        return False
    left = second_factors.recovery_codes_left(connection, account.id)
    before, after = {"recovery_codes": left + 1}, {"recovery_codes": left}
    inst.record_for_all(connection, "admin.use_recovery_code", account.name, before, after, now)
    return True


def _typed(code: str) -> str:
    """As people write it: in groups, in capitals."""
    return re.sub(r"[\s-]", "", code[:64]).lower()


def _step_of(secret: bytes, code: str, now: datetime) -> int | None:
    """The time step that the code is of, the latest of those that count; None where it is of none."""
    totp, current = _totp(secret), int(now.timestamp()) // STEP
    found = None
    for step in range(current - STEPS_OFF, current + STEPS_OFF + 1):
        try:
            totp.verify(code.encode("utf-8", "backslashreplace"), step * STEP)
        except InvalidToken:
            continue
        found = step
    return found


def _totp(secret: bytes) -> TOTP:
    return TOTP(secret, DIGITS, SHA1(), STEP)  # noqa: S303 - RFC 6238 1.2: HMAC-SHA-1, which the apps know


def _purpose(account: Account) -> str:
    return f"totp-secret of account {account.id}"


def _open(inst: Installation, connection: Connection, account: Account, sealed: bytes, now: datetime) -> bytes:
    try:
        return _key(inst, connection, now).open(INSTALLATION, _purpose(account), sealed)
    except SealError as error:
        raise Refused(f"the second factor of account {account.name} cannot be opened: {error}") from None


def _key(inst: Installation, connection: Connection, now: datetime) -> TenantKey:
    """The key that these secrets are sealed with, made when it is first needed. Raises Refused."""
    wrapped = stored_accounts.sealing_key(connection)
    if wrapped is None:
        made = TenantKey.generate()
        stored_accounts.save_sealing_key(connection, inst.provider.wrap(made.raw, INSTALLATION), now)
        return made
    try:
        return TenantKey(inst.provider.unwrap(wrapped, INSTALLATION))
    except SealError as error:
        raise Refused(f"the key of second factors cannot be unwrapped: {error}") from None
