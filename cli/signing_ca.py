"""``sallyport signing-ca``: the CAs that sign what clients are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import click

from cli import clock, output
from cli.context import Context, json_option, pass_context
from cli.trusted_ca import report, tell
from control.shown import certificates, expiry
from control.shown.bundles import findings
from control.shown.kmip import steps_as_objects
from control.shown.signing_cas import as_object, key_as_object, kind, request_pem

if TYPE_CHECKING:
    from collections.abc import Callable

    from certs.bundle import Bundle
    from control.on_premises import Connection, Enrolment, Examined
    from control.signing_cas import Upload
    from store.records import SigningCa

Part = Literal["root", "intermediate", "chain"]


@click.group(name="signing-ca")
def command() -> None:
    """The CAs that sign what clients are shown."""


@command.command(name="list")
@json_option
@pass_context
def list_(context: Context) -> None:
    """List the tenant's signing CAs."""
    from control import signing_cas

    inst = context.installation
    records = signing_cas.listing(inst, context.tenant)
    problems = {record.name: signing_cas.key_problem(inst, context.tenant, record.name) for record in records}
    if context.json:
        output.as_json([as_object(record, clock.now()) | {"key_problem": problems[record.name]} for record in records])
        return
    rows = []
    for record in records:
        chain = certificates.load(record.chain)
        status = f"{record.status} (key unusable)" if problems[record.name] else record.status
        shown = certificates.common_name(chain[0]) if chain else ""
        expires, changed = expiry.shown(chain, clock.now()), output.minute(record.changed_at)
        rows.append((record.name, kind(record), status, shown, expires, changed))
    headings = ("name", "kind", "status", "common name", "expires", "last change")
    output.table(headings, rows, f"Tenant {context.tenant} has no signing CA.")


@command.command()
@click.argument("name")
@json_option
@pass_context
def show(context: Context, name: str) -> None:
    """Show one signing CA, certificate by certificate."""
    from control import on_premises, signing_cas

    record = signing_cas.show(context.installation, context.tenant, name)
    problem = signing_cas.key_problem(context.installation, context.tenant, name)
    place = key_as_object(on_premises.key_of(context.installation, context.tenant, name))
    if context.json:
        output.as_json(as_object(record, clock.now()) | {"key_problem": problem, "key_manager": place})
        return
    loaded = certificates.load(record.chain)
    output.fields(
        [
            ("name", record.name),
            ("kind", kind(record)),
            ("status", record.status),
            *([("problem", problem)] if problem else []),
            *([("key", f"{place['key_name']} at {place['primary']}")] if place else []),
            *([("alternate", place["alternate"])] if place and place["alternate"] else []),
            *([("expires", expiry.shown(loaded, clock.now()))] if loaded else []),
            ("last change", f"{output.minute(record.changed_at)} by {record.changed_by}"),
        ]
    )
    if record.status == "requested":
        click.echo(request_pem(record), nl=False)
    for position, certificate in enumerate(loaded):
        click.echo(
            "Issuing certificate" if position == 0 else "Root" if position + 1 == len(loaded) else "Intermediate"
        )
        output.fields(certificates.full_fields(certificate, clock.now()), indent="  ")


@command.command()
@click.argument("name", required=False)
@click.option("--root", "part", flag_value="root", help="The root, which devices must trust. This is the default.")
@click.option("--intermediate", "part", flag_value="intermediate", help="The certificates below the root.")
@click.option("--chain", "part", flag_value="chain", help="The issuing certificate first, the root last.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["pem", "der", "p7b", "mobileconfig", "android"]),
    default="pem",
    show_default=True,
    help="mobileconfig: a profile for macOS and iOS; android: what Android's settings install.",
)
@click.option("--output", "target", metavar="F", help="Write to the file F instead of to standard output.")
@pass_context
def download(context: Context, name: str | None, part: Part | None, form: str, target: str | None) -> None:
    """Write certificates of the signing CA NAME; without NAME, of the active one."""
    from certs.download import DownloadError, encode
    from control import signing_cas

    chosen = signing_cas.part(context.installation, context.tenant, name, part or "root")
    try:
        encoded = encode(chosen, form, name or context.tenant)
    except DownloadError as error:
        output.misuse(str(error))
    output.write_output(target, encoded)
    if target is not None and target != "-":
        click.echo(f"Written to {target}: {', '.join(output.clean(certificates.common_name(one)) for one in chosen)}")


@command.command()
@click.argument("name")
@click.option("--common-name", required=True, metavar="CN", help="What the CA is called, 64 characters at most.")
@click.option("--organization", metavar="O")
@click.option("--organizational-unit", metavar="OU")
@click.option("--email", metavar="ADDRESS")
@click.option("--country", metavar="CC", help="Two letters, as in ISO 3166.")
@click.option("--state", metavar="ST")
@click.option("--city", metavar="L")
@click.option("--key-name", metavar="KMIPNAME", help="Ask for a key in a key manager (KMIP): its name there.")
@click.option("--primary", metavar="HOST[:PORT]", help="The key manager; port 5696 unless said otherwise.")
@click.option("--alternate", metavar="HOST[:PORT]", help="Who is asked where the primary does not answer.")
@click.option("--pss", is_flag=True, help="Sign by RSASSA-PSS instead of PKCS #1 v1.5.")
@click.option("--create-key", "create", is_flag=True, help="Make the RSA key pair in the key manager first.")
@click.option("--key-size", "bits", type=click.Choice(["2048", "3072", "4096"]), help="Of the new key, in bits.")
@click.option(
    "--public-key", metavar="FILE", help="The public key, or a certificate of it, where the key manager gives none."
)
@click.option("--output", "target", metavar="F", help="Write the request to the file F instead of to standard output.")
@pass_context
def csr(
    context: Context,
    /,
    name: str,
    target: str | None,
    key_name: str | None,
    primary: str | None,
    alternate: str | None,
    pss: bool,
    create: bool,
    bits: str | None,
    public_key: str | None,
    **fields: str | None,
) -> None:
    """Make a key that never leaves, and print a request for a CA certificate on it (PKCS #10, PEM).

    With --key-name and --primary the key is one that stays in a key manager, which signs the request.

    Have it signed by the CA above, as a CA certificate, and bring what you get with: signing-ca complete NAME FILE…
    """
    from certs.request import Subject
    from control import signing_cas

    subject = Subject(**fields)  # type: ignore[arg-type] # click requires the common name
    remarks: tuple[str, ...] = ()
    if key_name is None and primary is None:
        if alternate is not None or pss or create or bits is not None or public_key is not None:
            output.misuse("what says of a key in a key manager needs --key-name KMIPNAME and --primary HOST[:PORT]")
        made = signing_cas.request(context.installation, context.tenant, name, subject, clock.now())
    else:
        wanted = _enrolment(key_name, primary, alternate, pss, create, bits, public_key)
        made, remarks = signing_cas.request_on_premises(
            context.installation, context.tenant, name, subject, wanted, clock.now()
        )
    for remark in remarks:
        click.echo(output.clean(f"Note: {remark}."), err=True)  # standard output may be the request's
    output.write_output(target, request_pem(made))
    if target is not None and target != "-":
        click.echo(f"Signing CA {name} waits for its certificate; the request is in {target}.")


@command.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--activate", "activated", is_flag=True, help="Sign with it from now on.")
@json_option
@pass_context
def complete(context: Context, name: str, files: tuple[str, ...], activated: bool) -> None:
    """Save the signed chain for the request NAME, in one file or several, in any order."""
    from cli.kmip import Steps
    from control import signing_cas

    read = [output.read_input(file) for file in files]
    ca, bundle = signing_cas.complete(
        context.installation, context.tenant, name, read, clock.now(), activated, Steps(context).tell
    )
    _saved(context, ca, bundle)


@command.command(name="import")
@click.argument("name")
@click.option(
    "--cert",
    "certs",
    multiple=True,
    required=True,
    metavar="FILE",
    help="Certificates: PEM, DER or PKCS #7, in any order; or PKCS #12 with the key. May be repeated.",
)
@click.option("--key", metavar="FILE", help="The private key: PEM, DER or PKCS #12.")
@click.option("--passphrase-file", metavar="F", help="A file whose first line is the key's passphrase.")
@click.option("--activate", "activated", is_flag=True, help="Sign with it from now on.")
@json_option
@pass_context
def import_(
    context: Context, name: str, certs: tuple[str, ...], key: str | None, passphrase_file: str | None, activated: bool
) -> None:
    """Save a CA that was made elsewhere, with its private key, which is sealed here."""
    from control import signing_cas

    upload = _upload(certs, key, passphrase_file)
    ca, bundle = signing_cas.import_(context.installation, context.tenant, name, upload, clock.now(), activated)
    _saved(context, ca, bundle)


def _connect_options(function: Callable[..., None]) -> Callable[..., None]:
    """What says where an on-premises CA's key is."""
    for option in reversed((
        click.option("--intermediate", metavar="FILE", help="The issuing certificate, or with those above it."),
        click.option("--chain", "chain", multiple=True, metavar="FILE", help="Those above it; may be repeated."),
        click.option("--key-name", metavar="KMIPNAME", help="The name of the private key in the key manager."),
        click.option("--primary", metavar="HOST[:PORT]", help="The key manager; port 5696 unless said otherwise."),
        click.option("--alternate", metavar="HOST[:PORT]", help="Who is asked where the primary does not answer."),
        click.option("--pss", is_flag=True, help="Sign by RSASSA-PSS instead of PKCS #1 v1.5."),
    )):  # fmt: skip
        function = option(function)
    return function


@command.command()
@click.argument("name")
@_connect_options
@click.option("--activate", "activated", is_flag=True, help="Sign with it from now on.")
@json_option
@pass_context
def connect(context: Context, /, name: str, activated: bool, **where: Any) -> None:
    """Save a CA whose private key stays in a key manager (KMIP). It must sign a trial before anything is saved."""
    from cli.kmip import Steps
    from control import signing_cas

    wanted = _wanted(**where)
    ca, bundle = signing_cas.connect(
        context.installation, context.tenant, name, wanted, clock.now(), activated, Steps(context).tell
    )
    _saved(context, ca, bundle)


@command.command()
@click.argument("name", required=False)
@click.argument("files", nargs=-1, metavar="[FILE…]")
@click.option("--cert", "certs", multiple=True, metavar="FILE", help="Certificates of an import; may be repeated.")
@click.option("--key", metavar="FILE", help="The private key of an import.")
@click.option("--passphrase-file", metavar="F", help="A file whose first line is the key's passphrase.")
@_connect_options
@json_option
@pass_context
def validate(
    context: Context,
    /,
    name: str | None,
    files: tuple[str, ...],
    certs: tuple[str, ...],
    key: str | None,
    passphrase_file: str | None,
    **where: Any,
) -> None:
    """Say what complete (NAME FILE…), import (--cert …) or connect (--intermediate …) would find. Saves nothing."""
    from control import signing_cas

    if where["intermediate"] is not None and not files and not certs:
        _validate_connection(context, _wanted(**where))
        return
    if certs and not files:
        upload = _upload(certs, key, passphrase_file)
        bundle = signing_cas.validate_import(context.installation, context.tenant, upload, clock.now())
    elif name is not None and files and not certs:
        read = [output.read_input(file) for file in files]
        bundle = signing_cas.validate_completion(context.installation, context.tenant, name, read, clock.now())
        if signing_cas.show(context.installation, context.tenant, name).kind == "on_premises":
            _validate_steps(context, name, bundle)
            return
    else:
        output.misuse(
            "expected the arguments of complete (NAME FILE…), those of import (--cert FILE --key FILE) or those of "
            "connect (--intermediate FILE --key-name KMIPNAME --primary HOST:PORT)"
        )
    report(context, bundle)
    click.echo(f"It would be accepted; leaves would be signed by {certificates.common_name(bundle.chain[0])}.")


@command.command()
@click.argument("name")
@pass_context
def activate(context: Context, name: str) -> None:
    """Sign with NAME from now on; a running daemon purges within a second what was made with the other."""
    from control import signing_cas

    signing_cas.activate(context.installation, context.tenant, name, clock.now())
    click.echo(f"Signing CA {name} is active: tenant {context.tenant}'s leaves are signed by it from now on.")


@command.command()
@click.argument("old")
@click.argument("new")
@pass_context
def rename(context: Context, old: str, new: str) -> None:
    """Give the signing CA OLD the name NEW."""
    from control import signing_cas

    signing_cas.rename(context.installation, context.tenant, old, new, clock.now())
    click.echo(f"Signing CA {old} is now {new}.")


@command.command()
@click.argument("name")
@pass_context
def revoke(context: Context, name: str) -> None:
    """Destroy its key, for good. Where it was the active one, the built-in CA takes over."""
    from control import signing_cas

    done = signing_cas.revoke(context.installation, context.tenant, name, clock.now())
    became = (
        "its key, which stays in the key manager, is not used again"
        if done.ca.kind == "on_premises"
        else ("its key is destroyed, and it signs nothing ever again")
    )
    click.echo(f"Signing CA {name} is revoked: {became}.")
    if done.successor is not None:
        click.echo(f"Signing CA {done.successor.name} is active in its place; devices need its root.")
    output.remains(done.remains)


@command.command()
@click.argument("name")
@pass_context
def delete(context: Context, name: str) -> None:
    """Take it away with its key; never the active one."""
    from control import signing_cas

    remains = signing_cas.delete(context.installation, context.tenant, name, clock.now())
    click.echo(f"Signing CA {name} is deleted.")
    output.remains(remains)


def _wanted(
    intermediate: str | None, chain: tuple[str, ...], key_name: str | None, primary: str | None, alternate: str | None,
    pss: bool,
) -> Connection:  # fmt: skip
    from control.on_premises import Connection, key_at

    if intermediate is None or key_name is None or primary is None:
        output.misuse("--intermediate FILE, --key-name KMIPNAME and --primary HOST[:PORT] are needed together")
    files = tuple(output.read_input(file) for file in (intermediate, *chain))
    return Connection(files, key_at(key_name, primary, alternate, pss=pss))


def _enrolment(
    key_name: str | None, primary: str | None, alternate: str | None, pss: bool, create: bool, bits: str | None,
    public_key: str | None,
) -> Enrolment:  # fmt: skip
    from control.on_premises import Enrolment, key_at

    if key_name is None or primary is None:
        output.misuse("--key-name KMIPNAME and --primary HOST[:PORT] are needed together")
    if bits is not None and not create:
        output.misuse("--key-size is of a new key; it goes with --create-key")
    if create and public_key is not None:
        output.misuse("--public-key is of a key that exists; it does not go with --create-key")
    held = None if public_key is None else output.read_input(public_key)
    return Enrolment(key_at(key_name, primary, alternate, pss=pss), create, None if bits is None else int(bits), held)


def _validate_connection(context: Context, wanted: Connection) -> None:
    from cli.kmip import Steps
    from control import on_premises

    telling = Steps(context)
    _report_examined(
        context, on_premises.examine(context.installation, context.tenant, wanted, clock.now(), telling.tell)
    )


def _validate_steps(context: Context, name: str, bundle: Bundle) -> None:
    """The same for a request whose key is in a key manager: its certificates, and the steps."""
    from cli.kmip import Steps
    from control import on_premises

    steps = on_premises.examine_saved(context.installation, context.tenant, name, Steps(context).tell)
    _report_examined(context, on_premises.Examined(bundle, tuple(steps)))


def _report_examined(context: Context, examined: Examined) -> None:
    wrong = [finding.message for finding in examined.bundle.findings if finding.level == "error"]
    if context.json:
        output.as_json({"findings": findings(examined.bundle), "steps": steps_as_objects(examined.steps)})
    else:
        tell(examined.bundle)
        if wrong:
            raise output.Stop(wrong)
        if not examined.problems:
            shown = certificates.common_name(examined.bundle.chain[0])
            click.echo(f"It would be accepted; leaves would be signed by {output.clean(shown)}.")
    raise SystemExit(output.REFUSED if examined.problems else output.DONE)


def _upload(certs: tuple[str, ...], key: str | None, passphrase_file: str | None) -> Upload:
    from control.signing_cas import Upload

    passphrase = None if passphrase_file is None else output.read_first_line(passphrase_file)
    held = None if key is None else output.read_input(key)
    return Upload(tuple(output.read_input(file) for file in certs), held, passphrase)


def _saved(context: Context, ca: SigningCa, bundle: Bundle) -> None:
    if context.json:
        output.as_json({**as_object(ca, clock.now()), "findings": findings(bundle)})
        return
    tell(bundle)
    state = "saved and active" if ca.status == "active" else "saved; it signs once it is activated"
    click.echo(f"Signing CA {ca.name} ({output.clean(certificates.common_name(bundle.chain[0]))}) is {state}.")
