"""``sallyport probe``: connect to a server as the daemon would, and explain the verdict, the chain and the action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from control.shown import certificates

if TYPE_CHECKING:
    from certs.exceptions import HostException
    from proxy.probe import ProbeReport

PASSING = frozenset({"allow", "bypass"})


@click.command(name="probe")
@click.argument("target", metavar="HOST[:PORT]")
@json_option
@pass_context
def command(context: Context, target: str) -> None:
    """Connect to HOST as the daemon would, and explain what it would do. Exit status 1 where it would not pass."""
    from certs.names import InvalidHost, parse_authority
    from cli.probe_text import explain
    from control import tenants
    from proxy.probe import probe

    try:
        host, port = parse_authority(target, default_port=443)
    except InvalidHost as error:
        output.misuse(f"{target}: {error}; expected HOST or HOST:PORT")
    tenants.show(context.installation, context.tenant)  # refuses one that there is not
    report = probe(context.settings, context.tenant, host, port, clock.now)
    if context.json:
        output.as_json(as_object(report))
    else:
        explain(report, context.tenant, clock.now())
    raise SystemExit(output.DONE if passes(report) else output.REFUSED)


def passes(report: ProbeReport) -> bool:
    """Whether a client would get through to the server; where nothing is decrypted, whatever certificate it has."""
    if report.bypass is not None:
        return report.address is not None
    return report.failure is None and report.action.value in PASSING


def as_object(report: ProbeReport) -> dict[str, Any]:
    """The report for JSON."""
    from certs.checklist import outcomes
    from cli.probe_text import key_sha256

    origins = report.origins
    return {
        "host": str(report.host),
        "port": report.port,
        "address": report.address,
        "parent": report.parent,
        "failure": report.failure,
        "tls_version": report.tls_version,
        "cipher": report.cipher,
        "alpn": report.alpn,
        "group": report.group,
        "asks_for_certificate": report.asked,
        "action": report.action.value if report.bypass is None else "bypass",
        "bypass": None
        if report.bypass is None
        else {"rule": report.bypass.rule, "file": report.bypass.file, "otherwise": report.action.value},
        "passes": passes(report),
        "findings": [
            {
                "defect": one.defect.value,
                "explanation": one.explanation,
                "clause": one.clause,
                "certificate": one.certificate,
                "remedy": one.remedy,
                "check": one.check or None,
            }
            for one in report.verdict.findings
        ],
        "checks": [
            {
                "check": one.check.name,
                "says": one.check.says,
                "clause": one.check.clause,
                "defects": [defect.value for defect in one.check.defects],
                "state": one.state.value,
                "why": one.why or None,
                "findings": list(one.findings),
            }
            for one in outcomes(report.verdict)
        ],
        "completed": report.verdict.completed or None,
        "anchor": report.anchor or None,
        "elsewhere": [{"trusted_ca": name, "why": why} for name, why in report.elsewhere],
        "reasons": [
            {
                "defect": one.defect.value,
                "action": one.action.value,
                "by": str(one),
                "exception": None if one.exception is None else as_exception(one.exception, report),
            }
            for one in report.reasons
        ],
        "passed_over": [{**as_exception(one, report), "why": why} for one, why in report.passed_over],
        "key_sha256": key_sha256(report.verdict),
        "certificates": [
            certificates.as_object(one) | {"from": None if origins is None else origins.chain[place].value}
            for place, one in enumerate(report.verdict.chain)
        ],
        "beside_the_chain": [certificates.as_object(one) for one in (origins.beside if origins is not None else ())],
    }


def as_exception(exception: HostException, report: ProbeReport) -> dict[str, Any]:
    """An exception as the verdict knows it, for JSON."""
    return {
        "id": exception.id,
        "host": str(exception.pattern),
        "defect": exception.defect,
        "action": exception.action.value,
        "expires_at": exception.expires_at,
        "reason": exception.reason,
        "created_by": report.authors.get(exception.id),
    }
