"""What a probe found, for people: the server, its chain as a tree, every check, what is wrong, what is done and why.

What is wrong has a number, by which the tree and the checks point to it, so that each thing is explained once. States
are words; colours only underline them. Whatever a stranger wrote is cleaned before it is coloured.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click
from cryptography import x509

from certs.checklist import Outcome, State, outcomes
from certs.exceptions import key_fingerprint
from certs.expiry import begins_in, time_left
from certs.origin import Origin
from certs.verdict import Defect
from cli import output
from cli.output import clean, paint, paragraph
from control.shown import certificates

if TYPE_CHECKING:
    from certs.decision import Reason
    from certs.verdict import Verdict
    from proxy.probe import ProbeReport

STATES = {State.PASSED: "green", State.FAILED: "red", State.NOT_MADE: "yellow"}
ACTIONS = {"allow": "green", "bypass": "green", "warn": "yellow", "block": "red"}
VERBS = {
    "allow": "lets it pass",
    "block": "blocks it",
    "warn": "shows the client a certificate that it warns of",
    "bypass": "passes it on undecrypted",
}
MOST_NAMES = 6
MOST_BESIDE = 5


def explain(report: ProbeReport, tenant: str, now: datetime) -> None:
    """Print the report."""
    _server(report)
    if report.bypass is not None:
        where = "its own rules" if report.bypass.file is None else f"the list file {report.bypass.file}"
        rule = f"by the bypass rule {report.bypass.rule} of {where}"
        what = f"Tenant {tenant} does not decrypt it, {rule}. What follows is for information."
        click.echo(f"\n{paragraph(what)}")
    if report.failure is not None and not report.verdict.findings:
        click.echo(f"\n{paint('Not reached', 'red', bold=True)}: {clean(report.failure)}")
        return
    _chain(report, now)
    _checks(report.verdict)
    _findings(report)
    _decision(report, tenant)


def decided_by(reason: Reason, author: str = "") -> str:
    """What decided about a defect, in words. ``author``: who made the exception, where it is one."""
    if (exception := reason.exception) is not None:
        by = "" if not author else f", made by {author}"
        end = "" if exception.expires_at is None else f", until {output.minute(exception.expires_at)} UTC"
        return f"exception {exception.id} ({exception.reason}){by}{end}"
    words = {"default": "default", "nothing shown": "default: there is no certificate that could be let pass"}
    return words.get(reason.source.value, f"the {reason}")


def key_sha256(verdict: Verdict) -> str | None:
    """SHA-256 of the key in the server's certificate, hexadecimal, for an exception that outlives a renewal."""
    pin = None if verdict.leaf is None else key_fingerprint(verdict.leaf)
    return None if pin is None else pin.hex()


def _server(report: ProbeReport) -> None:
    host = f"[{report.host}]" if ":" in str(report.host) else str(report.host)
    shown = [("server", f"{host}:{report.port}"), ("address", report.address or "none")]
    if report.parent is not None:
        shown[1:] = [("parent proxy", f"{report.parent} ({report.address or 'not connected'})")]
    if report.tls_version is not None:
        parts = (report.tls_version, report.cipher, report.group)
        shown.append(("connection", ", ".join(part for part in parts if part)))
        shown.append(("protocol", report.alpn or "none agreed (ALPN)"))
    if report.asked:
        shown.append(("client certificate", "the server asks for one"))
    output.fields(shown)


def _heading(text: str, rest: str = "") -> None:
    click.echo(f"\n{paint(text, bold=True)}{rest}")


# --- the chain ---


def _chain(report: ProbeReport, now: datetime) -> None:
    verdict = report.verdict
    if not verdict.chain and not verdict.leaf_unread:
        return
    _heading("Chain")
    indent = "  "
    if verdict.leaf_unread:
        unread = paint("the server's own certificate, which cannot be read", "red")
        click.echo(f"  {unread}{'; behind it:' if verdict.chain else ''}")
    elif report.anchor:
        click.echo(f"  {paint(clean(report.anchor), 'green')}")
    else:
        click.echo(f"  {paint('nothing that is trusted here', 'red')}")
        top = verdict.chain[-1]
        if any(one.defect is Defect.INCOMPLETE_CHAIN and one.certificate is not None for one in verdict.findings):
            click.echo(paragraph(f"not sent: {certificates.issuer(top)}", "     ", "  └─ "))
            indent += "   "
    for place in reversed(range(len(verdict.chain))):
        _certificate(report, place, indent, now)
        indent += "   "
    beside = () if report.origins is None else report.origins.beside
    for certificate in beside[:MOST_BESIDE]:
        click.echo(paragraph(f"sent, and not needed: {certificates.subject(certificate)}", "    ", "  "))
    if len(beside) > MOST_BESIDE:
        click.echo(f"  and {len(beside) - MOST_BESIDE} more")
    if verdict.completed:
        click.echo(paragraph(f"The server did not send its whole chain; it was completed {verdict.completed}.", "  "))
    for name, why in report.elsewhere:
        click.echo(paragraph(f"Trusted CA {name} would vouch for it, but {why}.", "  "))


def _certificate(report: ProbeReport, place: int, indent: str, now: datetime) -> None:
    verdict = report.verdict
    certificate = verdict.chain[place]
    below = indent + ("   │  " if place else "      ")
    name = paragraph(certificates.subject(certificate), f"{indent}   ", f"{indent}└─ ")
    click.echo(paint(name, bold=not place and not verdict.leaf_unread))
    about = [certificates.key(certificate), _origin(report, place), _validity(certificate, now)]
    click.echo(paragraph(", ".join(part for part in about if part), below))
    if place == 0 and not verdict.leaf_unread and (names := certificates.names(certificate)):
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        click.echo(paragraph(f"names {', '.join(names[:MOST_NAMES])}{more}", below))
    if verdict.leaf is certificate or (not report.anchor and place == len(verdict.chain) - 1):
        click.echo(f"{below}sha256 {certificates.fingerprint(certificate)}")
    if verdict.leaf is certificate and (pin := key_sha256(verdict)) is not None:
        click.echo(f"{below}key sha256 {pin}")
    for number, finding in enumerate(verdict.findings, start=1):
        if finding.certificate == place:
            click.echo(f"{below}{paint(f'✗ {number} {finding.defect.value}', 'red', bold=True)}")


def _validity(certificate: x509.Certificate, now: datetime) -> str:
    def described() -> str:
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        valid = f"({output.day(begins)} to {output.day(ends)})"
        if begins > now:
            return f"{begins_in(begins, now)} {valid}"
        left = time_left(ends, now)
        return f"{left} {valid}" if now > ends else f"ends in {left.removesuffix(' left')} {valid}"

    try:
        return described()
    except ValueError:
        return "dates that cannot be read"


def _origin(report: ProbeReport, place: int) -> str:
    if report.origins is None:
        return ""
    match report.origins.chain[place]:
        case Origin.SENT:
            return "sent"
        case Origin.COMPLETED:
            return "not sent but found"
        case _ if place == len(report.verdict.chain) - 1:
            return "not sent"  # what it is of stands above it
        case origin:
            return f"not sent, of a {origin}"


# --- the checks ---


def _checks(verdict: Verdict) -> None:
    told = outcomes(verdict)
    counts = Counter(outcome.state for outcome in told)
    _heading("Checks", ": " + ", ".join(f"{counts[state]} {state}" for state in State if counts[state]))
    # Most often many were not made for one reason.
    reasons = list(dict.fromkeys(outcome.why for outcome in told if outcome.why))
    longest = max(len(outcome.check.defects[0]) for outcome in told)
    before = ""
    for outcome in told:
        group = outcome.check.defects[0].value
        shown, before = (group if group != before else ""), group
        state = paint(f"{outcome.state:<8}", STATES[outcome.state], bold=outcome.state is State.FAILED)
        lead = f"  {shown:<{longest}}  "
        taken = len(lead) + 10
        first, *more = _lines(outcome, reasons, 1000 if (most := output.columns()) is None else most - taken)
        click.echo(f"{lead}{state}  {first}")
        for line in more:
            click.echo(f"{'':{taken}}{line}")
    for place, why in enumerate(reasons):
        lead = f"  not made ({_letter(place)}): "
        text = paragraph(why, " " * len(lead), lead)
        click.echo(paint(lead, "yellow") + text[len(lead) :])


def _letter(place: int) -> str:
    return chr(ord("a") + place)


def _lines(outcome: Outcome, reasons: list[str], room: int) -> Iterator[str]:
    """What the check says, with the numbers of its findings or why it was not made; the clause where there is room."""
    mark = ""
    if outcome.findings:
        mark = f" ✗ {' '.join(str(place + 1) for place in outcome.findings)}"
    elif outcome.why:
        mark = f" ({_letter(reasons.index(outcome.why))})"
    *before, last = textwrap.wrap(outcome.check.says, room - len(mark))
    yield from before
    clause = f"  {outcome.check.clause}"
    if before or len(last) + len(mark) + len(clause) > room:
        clause = ""
    failed = outcome.state is State.FAILED
    yield last + paint(mark, STATES[outcome.state], bold=failed) + paint(clause, dim=True)


# --- what is wrong, and what is done ---


def _findings(report: ProbeReport) -> None:
    findings = report.verdict.findings
    if not findings:
        click.echo(f"\n{paint("Nothing is wrong with the server's certificate.", 'green')}")
        return
    _heading("What is wrong")
    remedies = [finding.remedy for finding in findings]
    for number, finding in enumerate(findings, start=1):
        mark = f"  {number} "
        click.echo(f"{mark}{paint(finding.defect.value, 'red', bold=True)}")
        clause = f" ({finding.clause})" if finding.clause else ""
        click.echo(paragraph(f"{finding.explanation}{clause}", " " * len(mark)))
        # One that several have is said once, with the last.
        if finding.remedy and finding.remedy not in remedies[number:]:
            click.echo(paragraph(f"remedy: {finding.remedy}", " " * len(mark)))


def _decision(report: ProbeReport, tenant: str) -> None:
    if report.reasons or report.passed_over:
        _heading("What is done, and why")
    longest = max((len(reason.defect) for reason in report.reasons), default=0)
    for reason in report.reasons:
        author = "" if reason.exception is None else report.authors.get(reason.exception.id, "")
        lead = f"  {reason.defect:<{longest}}  "
        text = paragraph(f"by {decided_by(reason, author)}", " " * (len(lead) + 8), f"{lead}{reason.action:<8}")
        action = paint(reason.action.value, ACTIONS[reason.action.value])
        click.echo(f"{lead}{action}{text[len(lead) + len(reason.action) :]}")
    for exception, why in report.passed_over:
        over = f"Exception {exception.id} ({exception.defect} of {exception.pattern}) does not count: {why}."
        click.echo(paragraph(over, "    ", "  "))
    action = report.action.value
    whoever = "Tenant" if report.bypass is None else "Without that rule tenant"
    click.echo(f"\n{paint(f'{whoever} {clean(tenant)} {VERBS[action]}.', ACTIONS[action], bold=True)}")
