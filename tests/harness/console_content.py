"""What an installation looks like that has been at work for a while: something of everything that pages show.

For tests that open every page, and for the pictures in docs/console.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from certs.request import Subject
from control import (
    api_tokens,
    bypass_rules,
    error_settings,
    host_exceptions,
    kmip_forwarding,
    proxy_users,
    signing_cas,
    tenants,
    trusted_cas,
    wireguard,
)
from control.authorisation import Role, Scope
from control.host_exceptions import Wanted
from control.installation import Installation
from store import recent_servers, refusals, traffic_figures
from store import tenants as stored_tenants
from store.records import RecentServer, Refusal
from tests.console.fakes import Telling
from tests.control.conftest import account
from tests.harness.pki import DAY, Authority, self_signed

HOUR = timedelta(hours=1)
STEP = timedelta(minutes=10)
LONG = "payments-gateway.internal.emea.region-two.services.example.com"
"""A host as long as they come: what does not fit a telephone does not fit with this."""


def fill(inst: Installation, now: datetime) -> None:
    """Put it there. Whoever signs in is an account of the caller's."""
    for name in ("branch-office", "guest-wifi"):
        tenants.create(inst, name, now)
    _certificates(inst, now)
    _settings(inst, now)
    _people(inst, now)
    _traffic(inst, now)


def _certificates(inst: Installation, now: datetime) -> None:
    valid = {"not_before": now - 400 * DAY, "not_after": now + 900 * DAY}
    root = Authority.root("Example Corporate Root G2", **valid)  # type: ignore[arg-type] # by name
    issuing = root.intermediate("Example Corporate Issuing 3", **valid)  # type: ignore[arg-type] # by name
    soon = Authority.root("Partner Extranet Root", not_before=now - 720 * DAY, not_after=now + 9 * DAY)
    lab = Authority.root("Laboratory Test Root", not_before=now - 90 * DAY, not_after=now + 275 * DAY)
    for name, data, hosts, active in (
        ("Corporate", issuing.pem() + root.pem(), (".corp.example.com", "intranet.example.com"), True),
        ("Partner extranet", soon.pem(), (".partner.example.net",), True),
        ("Laboratory", lab.pem(), (), False),
    ):
        trusted_cas.add(inst, "default", [trusted_cas.Upload(name, data, hosts, active)], now)
    proxy = root.intermediate("Example Corporate Proxy CA", **valid)  # type: ignore[arg-type] # by name
    upload = signing_cas.Upload((proxy.chain_pem(with_root=True),), proxy.key_pem())
    signing_cas.import_(inst, "default", "Corporate proxy CA", upload, now)
    signing_cas.request(inst, "default", "Next year's CA", Subject("Example Gateway CA", country="CH"), now)
    client = root.leaf("sallyport.example.com", eku=("client",), **valid)  # type: ignore[arg-type] # by name
    given = kmip_forwarding.Credentials(client.chain_pem(), root.pem(), client.key_pem())
    kmip_forwarding.set_(inst, "default", given, now)


def _settings(inst: Installation, now: datetime) -> None:
    error_settings.set_action(inst, "default", "expired", "warn", now)
    error_settings.set_action(inst, "default", "weak_signature", "warn", now)
    until = (now + 60 * DAY).date().isoformat()
    for wanted in (
        Wanted(
            "printer.example.com", "self_signed", "allow", "Its maker offers no other certificate.", "ab" * 32, until
        ),
        Wanted("*.lab.example.com", "expired", "allow", "Moves to the new CA in March."),
        Wanted(LONG, "hostname_mismatch", "warn", "Known to its owners."),
    ):
        host_exceptions.add(inst, "default", wanted, now)
    bypass_rules.add(inst, "default", [".bank.example", "health.example.org"], now, "Personal matters of employees")
    bypass_rules.add(inst, "default", ["update.vendor.example"], now, "Pinned", now + 30 * DAY)


def _people(inst: Installation, now: datetime) -> None:
    account(inst, "bea.keller", Role.ADMINISTRATOR, "default", "branch-office")
    account(inst, "carol.long-name+of-somebody@example.com", Role.AUDITOR)
    api_tokens.create(inst, "deployment pipeline", "bea.keller", now, Scope.WRITE, expires_at=now + 80 * DAY)
    for name in ("build-server", "scanner"):
        proxy_users.add(inst, "default", name, "elephants in the tea room", now)
    for name in ("Ann's telephone", "field laptop 7"):
        wireguard.add_peer(inst, "default", name, now)


def _traffic(inst: Installation, now: datetime) -> None:
    printer = self_signed("printer.example.com", not_before=now - DAY, not_after=now + DAY)
    begin = datetime.fromtimestamp(now.timestamp() // 3600 * 3600, now.tzinfo)
    verdicts: dict[tuple[datetime, str, str], int] = {}
    blocked: dict[tuple[datetime, str, str], int] = {}
    for hour in range(1, 24):
        at = begin - hour * HOUR
        verdicts[at, traffic_figures.NONE, "allow"] = 40 + 7 * (hour % 9)
        verdicts[at, "expired", "warn"] = 3 + hour % 4
        verdicts[at, "untrusted_root", "block"] = 2 + hour % 6
        verdicts[at, traffic_figures.NONE, "bypass"] = 5 + hour % 3
        blocked[at, "files.old-partner.example", "untrusted_root"] = 1 + hour % 3
        blocked[at, LONG, "hostname_mismatch"] = 1
    seen = [
        RecentServer(host, 443, now - HOUR, True, None, (defect,), action, (printer.raw,))
        for host, defect, action in (
            ("printer.example.com", "self_signed", "block"),
            ("files.old-partner.example", "untrusted_root", "block"),
            (LONG, "hostname_mismatch", "warn"),
        )
    ]
    refused = [
        Refusal("login.pinned-app.example", f"192.0.2.{n}", 2 + n, "alert", now - DAY, now - HOUR) for n in range(6)
    ]
    with inst.store.transaction() as c:
        tenant = stored_tenants.by_name(c, "default")
        assert tenant is not None
        traffic_figures.add_verdicts(c, tenant.id, verdicts)
        traffic_figures.add_blocked(c, tenant.id, blocked)
        recent_servers.add(c, tenant.id, seen)
        refusals.add(c, tenant.id, refused)


def tell(daemon: Telling, inst: Installation, now: datetime) -> None:
    """What the workers have to say of it."""
    with inst.reading("default") as (_, found):
        daemon.serves("default", found.generation)
    for n in range(6):
        at, client = now.timestamp() - 400 + 60 * n, f"192.0.2.{17 + n}"
        daemon.tells(
            "request", at, host="docs.example.com", port=443, client=client, method="GET", path="/guide", status=200,
            lane="fast",
        )  # fmt: skip
        daemon.tells(
            "verdict", at + 5, host="files.old-partner.example", port=443, client=client, action="block",
            defects=["untrusted_root"],
        )  # fmt: skip
        daemon.tells(
            "refused", at + 5, host="files.old-partner.example", client=client, status=502, details="untrusted_root"
        )
        daemon.tells("verdict", at + 9, host=LONG, port=8443, client=client, action="warn", defects=["expired"])
        daemon.tells("bypass", at + 12, host="www.bank.example", port=443, client=client, action="bypass")
