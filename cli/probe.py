"""``sallyport probe``: connect to a server as the daemon would, and explain the verdict, the chain and the action."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli import certificates, clock, output
from cli.context import Context, json_option, pass_context

if TYPE_CHECKING:
    from certs.verdict import Finding
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
        "elsewhere": [{"trusted_ca": name, "why": why} for name, why in report.elsewhere],
        "certificates": [certificates.as_object(one) for one in report.verdict.chain],
    }


def explain(report: ProbeReport, tenant: str) -> None:
    """The report for people."""
    host = f"[{report.host}]" if ":" in str(report.host) else str(report.host)
    shown = [("server", f"{host}:{report.port}"), ("address", report.address or "none")]
    if report.tls_version is not None:
        shown.append(("connection", ", ".join(part for part in (report.tls_version, report.cipher) if part)))
        shown.append(("protocol", report.alpn or "none agreed (ALPN)"))
    output.fields(shown)
    for place, certificate in enumerate(report.verdict.chain):
        click.echo("\nThe server's certificate" if place == 0 else f"\nCertificate {place} above it")
        output.fields(certificates.as_fields(certificate), indent="  ")
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
    for name, why in report.elsewhere:
        click.echo(output.clean(f"Trusted CA {name} would vouch for it, but {why}."))
    if report.verdict.ok:
        click.echo("Nothing is wrong with the server's certificate.")
    verb = {"allow": "lets it pass", "block": "blocks it"}.get(report.action.value, f"applies {report.action.value}")
    whoever = "Tenant" if report.bypass is None else "Without that rule tenant"
    click.echo(f"{whoever} {output.clean(tenant)} {verb}.")


def _explain(finding: Finding) -> None:
    where = "" if finding.certificate is None else f" (certificate {finding.certificate + 1} of the chain)"
    click.echo(f"{finding.defect.value}{where}: {output.clean(finding.explanation)}")
    if finding.clause:
        click.echo(f"  by      {output.clean(finding.clause)}")
    if finding.remedy:
        click.echo(f"  remedy  {output.clean(finding.remedy)}")
