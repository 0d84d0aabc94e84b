"""``sallyport probe``: connect to a server as the daemon would, and explain the verdict, the chain and the action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli import certificates, clock, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from certs.decision import Reason
    from certs.exceptions import HostException
    from certs.verdict import Finding, Verdict
    from proxy.probe import ProbeReport

PASSING = frozenset({"allow", "bypass"})


@click.command(name="probe")
@click.argument("target", metavar="HOST[:PORT]")
@json_option
@pass_context
def command(context: Context, target: str) -> None:
    """Connect to HOST as the daemon would, and explain what it would do. Exit status 1 where it would not pass."""
    from certs.names import InvalidHost, parse_authority
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
        explain(report, context.tenant)
    raise SystemExit(output.DONE if passes(report) else output.REFUSED)


def passes(report: ProbeReport) -> bool:
    """Whether a client would get through to the server; where nothing is decrypted, whatever certificate it has."""
    if report.bypass is not None:
        return report.address is not None
    return report.failure is None and report.action.value in PASSING


def as_object(report: ProbeReport) -> dict[str, Any]:
    """The report for JSON."""
    return {
        "host": str(report.host),
        "port": report.port,
        "address": report.address,
        "failure": report.failure,
        "tls_version": report.tls_version,
        "cipher": report.cipher,
        "alpn": report.alpn,
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
            }
            for one in report.verdict.findings
        ],
        "completed": report.verdict.completed or None,
        "elsewhere": [{"trusted_ca": name, "why": why} for name, why in report.elsewhere],
        "reasons": [
            {
                "defect": one.defect.value,
                "action": one.action.value,
                "by": str(one),
                "exception": None if one.exception is None else as_exception(one.exception),
            }
            for one in report.reasons
        ],
        "passed_over": [{**as_exception(one), "why": why} for one, why in report.passed_over],
        "key_sha256": key_sha256(report.verdict),
        "certificates": [certificates.as_object(one) for one in report.verdict.chain],
    }


def explain(report: ProbeReport, tenant: str) -> None:
    """The report for people."""
    host = f"[{report.host}]" if ":" in str(report.host) else str(report.host)
    shown = [("server", f"{host}:{report.port}"), ("address", report.address or "none")]
    if report.tls_version is not None:
        shown.append(("connection", ", ".join(part for part in (report.tls_version, report.cipher) if part)))
        shown.append(("protocol", report.alpn or "none agreed (ALPN)"))
    if report.asked:
        shown.append(("client certificate", "the server asks for one"))
    output.fields(shown)
    for place, certificate in enumerate(report.verdict.chain):
        click.echo("\nThe server's certificate" if place == 0 else f"\nCertificate {place} above it")
        shown_of = certificates.as_fields(certificate)
        if place == 0 and (pin := key_sha256(report.verdict)) is not None:
            shown_of.append(("key sha256", pin))
        output.fields(shown_of, indent="  ")
    click.echo()
    if report.bypass is not None:
        where = "its own rules" if report.bypass.file is None else f"the list file {report.bypass.file}"
        rule = f"by the bypass rule {report.bypass.rule} of {where}"
        click.echo(output.clean(f"Tenant {tenant} does not decrypt it, {rule}. What follows is for information."))
    if report.failure is not None and not report.verdict.findings:
        click.echo(output.clean(f"Not reached: {report.failure}"))
        return
    for finding in report.verdict.findings:
        _explain(finding)
    if where := report.verdict.completed:
        click.echo(output.clean(f"The server did not send its whole chain; it was completed {where}."))
    for name, why in report.elsewhere:
        click.echo(output.clean(f"Trusted CA {name} would vouch for it, but {why}."))
    if report.verdict.ok:
        click.echo("Nothing is wrong with the server's certificate.")
    for reason in report.reasons:
        click.echo(output.clean(f"{reason.defect.value}: {reason.action.value}, by {decided_by(reason)}"))
    for exception, why in report.passed_over:
        click.echo(output.clean(f"Exception {exception.id} ({exception.defect} of {exception.pattern}): {why}."))
    verb = {"allow": "lets it pass", "block": "blocks it"}.get(report.action.value, f"applies {report.action.value}")
    whoever = "Tenant" if report.bypass is None else "Without that rule tenant"
    click.echo(f"{whoever} {output.clean(tenant)} {verb}.")


def key_sha256(verdict: Verdict) -> str | None:
    """SHA-256 of the key in the server's certificate, hexadecimal, for an exception that outlives a renewal."""
    from certs.exceptions import key_fingerprint

    pin = None if verdict.leaf is None else key_fingerprint(verdict.leaf)
    return None if pin is None else pin.hex()


def decided_by(reason: Reason) -> str:
    """What decided about a defect, in words."""
    if (exception := reason.exception) is not None:
        end = "" if exception.expires_at is None else f", until {output.minute(exception.expires_at)} UTC"
        return f"exception {exception.id} ({exception.reason}){end}"
    words = {"default": "default", "nothing shown": "default: there is no certificate that could be let pass"}
    return words.get(reason.source.value, f"the {reason}")


def as_exception(exception: HostException) -> dict[str, Any]:
    """An exception as the verdict knows it, for JSON."""
    return {
        "id": exception.id,
        "host": str(exception.pattern),
        "defect": exception.defect,
        "action": exception.action.value,
        "expires_at": exception.expires_at,
        "reason": exception.reason,
    }


def _explain(finding: Finding) -> None:
    where = "" if finding.certificate is None else f" (certificate {finding.certificate + 1} of the chain)"
    click.echo(f"{finding.defect.value}{where}: {output.clean(finding.explanation)}")
    if finding.clause:
        click.echo(f"  by      {output.clean(finding.clause)}")
    if finding.remedy:
        click.echo(f"  remedy  {output.clean(finding.remedy)}")
