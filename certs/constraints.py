"""Name constraints (RFC 5280 4.2.1.10): which names the certificates below a CA may carry.

Two questions: is the extension itself sound, and which names of a certificate does it forbid. Where a constraint could
be read in two ways, the stricter counts. A form of name that is constrained, present and not understood here is
forbidden, whether or not the extension is critical.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509

from certs.der import DerError, read
from certs.facts import Facts, NameKey, name_key

CLAUSE = "RFC 5280 4.2.1.10"
LONGEST_NAME = 255
"""Characters of a domain name, a wildcard in front included (RFC 1035, section 2.3.4)."""
MOST_COMPARISONS = 1 << 14
"""Names times constraints of one certificate and one extension, dNSName apart, which is looked up and not compared."""

_DOMAIN = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\Z")
_EMAIL_ATTRIBUTE = bytes.fromhex("2a864886f70d010901")  # 1.2.840.113549.1.9.1, RFC 2985
_NAME_CONSTRAINTS = bytes.fromhex("551d1e")  # 2.5.29.30
_EXTENSIONS = 0xA3  # [3] of a TBSCertificate


@dataclass(frozen=True, slots=True)
class Names:
    """The names that a certificate carries, by form."""

    domains: tuple[str, ...]
    addresses: tuple[object, ...]
    mailboxes: tuple[str, ...]
    directory: tuple[NameKey, ...]
    others: tuple[x509.GeneralName, ...]


def names_of(facts: Facts) -> Names:
    """All names of a certificate: the subject where it is not empty, and every subject alternative name."""
    directory = [facts.subject] if facts.subject else []
    domains: list[str] = []
    addresses: list[object] = []
    others: list[x509.GeneralName] = []
    mailboxes = [
        value for relative in facts.subject for oid, value in relative if oid == _EMAIL_ATTRIBUTE and type(value) is str
    ]
    for name in facts.extension(x509.SubjectAlternativeName) or ():
        if isinstance(name, x509.DNSName):
            domains.append(name.value.lower().removesuffix("."))
        elif isinstance(name, x509.IPAddress):
            addresses.append(name.value)
        elif isinstance(name, x509.RFC822Name):
            mailboxes.append(name.value.casefold())
        elif isinstance(name, x509.DirectoryName):
            directory.append(_key(name.value))
        else:
            others.append(name)
    return Names(tuple(domains), tuple(addresses), tuple(mailboxes), tuple(directory), tuple(others))


def unsound(facts: Facts) -> Iterator[str]:
    """What is wrong with the certificate's own constraints."""
    constraints = facts.extension(x509.NameConstraints)
    if constraints is None:
        return
    for subtree in _subtrees(constraints):
        if isinstance(subtree, x509.DNSName) and subtree.value and not _DOMAIN.match(subtree.value.removeprefix(".")):
            yield f"the name constraint {subtree.value[:80]!a} is no domain"
    if _has_distances(facts):
        yield "a name constraint has a minimum or maximum, which must not be there"


def forbidden(constraints: x509.NameConstraints, names: Names) -> Iterator[str]:
    """Which of the names the constraints forbid, each in words."""
    permitted, excluded = tuple(constraints.permitted_subtrees or ()), tuple(constraints.excluded_subtrees or ())
    yield from _forbidden_domains(permitted, excluded, names.domains)
    compared = len(names.addresses) + len(names.mailboxes) + len(names.directory)
    if compared * (len(permitted) + len(excluded)) > MOST_COMPARISONS:
        yield "there are more names and name constraints than are compared here"
        return
    for form, values in (
        (x509.IPAddress, names.addresses),
        (x509.RFC822Name, names.mailboxes),
        (x509.DirectoryName, names.directory),
    ):
        allowing = [_plain(subtree) for subtree in permitted if isinstance(subtree, form)]
        refusing = [_plain(subtree) for subtree in excluded if isinstance(subtree, form)]
        for value in values:
            if any(_within(value, base) for base in refusing):
                yield f"{_shown(value)} is excluded"
            elif allowing and not any(_within(value, base) for base in allowing):
                yield f"{_shown(value)} is not permitted"
    constrained = {type(subtree) for subtree in permitted + excluded}
    for other in names.others:
        if type(other) in constrained:
            yield f"a {type(other).__name__} is constrained in a form that is not understood here"


def _forbidden_domains(
    permitted: Sequence[x509.GeneralName], excluded: Sequence[x509.GeneralName], names: Sequence[str]
) -> Iterator[str]:
    allowing = {subtree.value.lower() for subtree in permitted if isinstance(subtree, x509.DNSName)}
    # A leading dot, which RFC 5280 gives no meaning here, spares the domain itself where it permits,
    # and does not where it excludes.
    refusing = {subtree.value.lower().removeprefix(".") for subtree in excluded if isinstance(subtree, x509.DNSName)}
    # A wildcard could stand for a name that is excluded one label below it.
    refusing_below = {domain.partition(".")[2] for domain in refusing if domain}
    for name in names:
        if len(name) > LONGEST_NAME:
            yield f"a name of {len(name)} characters is longer than a domain name can be (RFC 1035 2.3.4)"
        elif _covered(name, refusing) or (name.startswith("*.") and name[2:] in refusing_below):
            yield f"{_shown(name)} is excluded"
        elif allowing and not _covered(name, allowing):
            yield f"{_shown(name)} is not permitted"


def _covered(name: str, domains: set[str]) -> bool:
    """Whether the name is one of the domains or below one; ``.example`` stands for what is below, the empty for all.

    The caller has seen to it that the name is no longer than a name can be: the walk is quadratic in its length.
    """
    if "" in domains or name in domains:
        return True
    rest = name
    while rest:
        _, _, rest = rest.partition(".")
        if rest and (rest in domains or "." + rest in domains):
            return True
    return False


def _within(value: object, base: object) -> bool:
    """Whether an address lies in a network, a mailbox on a host, a directory name below another."""
    if isinstance(value, str) and isinstance(base, str):
        if "@" in base:
            return value == base
        host = value.rpartition("@")[2]
        return host.endswith(base) if base.startswith(".") else not base or host == base
    if isinstance(value, tuple) and isinstance(base, tuple):
        return bool(value[: len(base)] == base)
    return hasattr(base, "__contains__") and value in base


def _plain(subtree: x509.GeneralName) -> object:
    if isinstance(subtree, x509.DirectoryName):
        return _key(subtree.value)
    if isinstance(subtree, x509.RFC822Name):
        return subtree.value.casefold()
    return subtree.value


def _key(name: x509.Name) -> NameKey:
    return name_key(read(name.public_bytes()))


def _subtrees(constraints: x509.NameConstraints) -> Iterator[x509.GeneralName]:
    yield from constraints.permitted_subtrees or ()
    yield from constraints.excluded_subtrees or ()


def _has_distances(facts: Facts) -> bool:
    """Whether a GeneralSubtree holds more than its base: cryptography's parsed value does not say."""
    try:
        fields = read(facts.certificate.tbs_certificate_bytes).children()
        for extensions in (field for field in fields if field.tag == _EXTENSIONS):
            for extension in next(extensions.children()).children():
                kind, *_, value = extension.children()
                if kind.content == _NAME_CONSTRAINTS:
                    lists = read(value.content).children()
                    return any(len(list(subtree.children())) > 1 for each in lists for subtree in each.children())
    except (DerError, StopIteration):
        return True
    return False


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "the subject"
    return ascii(value[:80]) if isinstance(value, str) else str(value)
