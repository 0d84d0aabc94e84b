"""Name constraints in all their forms: which names a CA may vouch for."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from certs.verdict import Defect
from tests.harness.der_writing import tlv
from tests.harness.pki import Authority, Issued, Raw, common_name
from tests.scenarios.base import ACCEPTS, Server, constrained, issuing, network, public, root, scenario
from tests.scenarios.form import UNREADABLE_CA

THE_DOT = "Both read the dot as: only what is below."
NOT_LOOKED_AT = "OpenSSL lets a network that makes no sense match nothing."

VIOLATION = Defect.CONSTRAINT_VIOLATION


def raw_constraints(value: bytes) -> Authority:
    """An intermediate whose constraints are given as they are encoded."""
    return root().intermediate("Written", extra=[Raw("2.5.29.30", value, critical=True)])


def subtree(kind: int, *base: bytes, excluded: bool = False) -> bytes:
    """NameConstraints with one subtree: the name's tag, its content, and what stands behind it."""
    name, *more = base
    return tlv(0x30, tlv(0xA1 if excluded else 0xA0, tlv(0x30, tlv(kind, name) + b"".join(more))))


# --- dNSName


@scenario(VIOLATION)
def a_name_beside_the_permitted_ones(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    return Server(constrained([x509.DNSName("other.example")]).leaf(host))


@scenario(VIOLATION)
def a_name_beside_those_permitted_to_a_common_ca(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    ca = constrained([x509.DNSName("other.example")], below=public())
    return Server(ca.leaf(host), common=[public()])


@scenario()
def the_very_name_that_is_permitted(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    return Server(constrained([x509.DNSName(host)]).leaf(host))


@scenario()
def a_name_below_the_permitted_one_of_a_common_ca(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    ca = constrained([x509.DNSName(host)], below=public())
    return Server(ca.leaf(f"a.b.{host}"), host=f"a.b.{host}", common=[public()])


@scenario(VIOLATION)
def a_second_name_beside_the_permitted_ones(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b).

    All names count, not only the one that was asked for.
    """
    return Server(constrained([x509.DNSName(host)]).leaf([host, "other.example"]))


@scenario(VIOLATION)
def a_permitted_domain_that_the_name_only_ends_like(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(constrained([x509.DNSName(host[1:])]).leaf(host))


@scenario(VIOLATION)
def a_leading_dot_and_the_domain_itself(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10.

    The dot has no meaning there; of two readings the stricter counts.
    """
    return Server(constrained([x509.DNSName(f".{host}")]).leaf(host))


@scenario()
def a_leading_dot_and_what_is_below(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    www = f"www.{host}"
    return Server(constrained([x509.DNSName(f".{host}")]).leaf(www), host=www)


@scenario(VIOLATION, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=THE_DOT)
def a_leading_dot_of_a_common_ca(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    www = f"www.{host}"
    return Server(constrained([x509.DNSName(f".{host}")], below=public()).leaf(www), host=www, common=[public()])


@scenario(VIOLATION)
def an_excluded_name(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    return Server(constrained(None, [x509.DNSName(host.upper())]).leaf(host))


@scenario(VIOLATION)
def a_name_below_an_excluded_one(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    return Server(constrained(None, [x509.DNSName("example")]).leaf(host))


@scenario(VIOLATION, curl_says=ACCEPTS, chromium_says=ACCEPTS, why=THE_DOT)
def an_excluded_name_with_a_leading_dot(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10.

    Of two readings of the dot the stricter counts: the domain itself is excluded too.
    """
    return Server(constrained(None, [x509.DNSName(f".{host}")]).leaf(host))


@scenario(VIOLATION, curl_says=ACCEPTS, why="OpenSSL compares the texts as they are.")
def an_excluded_name_written_with_a_trailing_dot(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    return Server(constrained(None, [x509.DNSName(host)]).leaf(f"{host}."))


@scenario(VIOLATION)
def what_is_excluded_wins_over_what_is_permitted(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(constrained([x509.DNSName(host)], [x509.DNSName(host)]).leaf(host))


@scenario(VIOLATION)
def everything_excluded(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(raw_constraints(subtree(0x82, b"", excluded=True)).leaf(host))


@scenario()
def everything_permitted(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10.

    An empty name is above every other.
    """
    return Server(raw_constraints(subtree(0x82, b"")).leaf(host))


@scenario()
def an_excluded_sibling(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    return Server(constrained(None, [x509.DNSName(f"bad.{host}")]).leaf([host, f"www.{host}"]))


@scenario(VIOLATION, curl_says=ACCEPTS, why="OpenSSL compares the pattern as if it were a name.")
def a_wildcard_that_could_stand_for_an_excluded_name(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c), RFC 9525 6.3."""
    ca = constrained(None, [x509.DNSName(f"secret.{host}")])
    return Server(ca.leaf(f"*.{host}"), host=f"www.{host}")


@scenario()
def a_wildcard_beside_the_excluded_name(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (c), RFC 9525 6.3."""
    ca = constrained(None, [x509.DNSName(f"deep.secret.{host}")])
    return Server(ca.leaf(f"*.{host}"), host=f"www.{host}")


@scenario()
def a_wildcard_below_the_permitted_name(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (b)."""
    return Server(constrained([x509.DNSName(host)]).leaf(f"*.{host}"), host=f"www.{host}")


@scenario(VIOLATION)
def a_wildcard_that_could_stand_for_more_than_is_permitted(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    ca = constrained([x509.DNSName(f"www.{host}")])
    return Server(ca.leaf(f"*.{host}"), host=f"www.{host}")


@scenario(Defect.MALFORMED, VIOLATION)
def a_constraint_that_is_a_wildcard(host: str) -> Server:
    """Blocked as malformed, constraint_violation: RFC 5280 4.2.1.10."""
    return Server(raw_constraints(subtree(0x82, f"*.{host}".encode())).leaf(f"www.{host}"), host=f"www.{host}")


@scenario(VIOLATION, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="For both it matches nothing.")
def a_constraint_that_is_no_domain(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(constrained(None, [x509.DNSName("a b")]).leaf(host))


@scenario(VIOLATION, Defect.HOSTNAME_MISMATCH)
def a_common_name_does_not_stand_in_for_a_dns_name(host: str) -> Server:
    """Blocked as constraint_violation, hostname_mismatch: RFC 5280 6.1.3 (b), RFC 9525 2."""
    return Server(constrained([x509.DNSName("other.example")]).leaf(host, san=[x509.DNSName(f"www.{host}")]))


# --- iPAddress


@scenario(VIOLATION)
def an_address_outside_the_permitted_network(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    ca = constrained([network("192.0.2.0/24"), x509.DNSName(host)])
    return Server(ca.leaf([host, "198.51.100.1"]))


@scenario()
def an_address_in_the_permitted_network(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (b)."""
    return Server(constrained([network("127.80.1.0/24")]).leaf("127.80.1.1"), host="127.80.1.1")


@scenario(VIOLATION)
def the_address_that_is_asked_for_outside_the_permitted_network(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    return Server(constrained([network("192.0.2.0/24")]).leaf("127.80.1.2"), host="127.80.1.2")


@scenario(VIOLATION)
def an_ipv6_address_and_a_permitted_ipv4_network(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(constrained([network("192.0.2.0/24")]).leaf([host, "2001:db8::1"]))


@scenario()
def an_ipv6_address_in_the_permitted_network(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    return Server(constrained([network("2001:db8::/32")]).leaf([host, "2001:db8:1::1"]))


@scenario(VIOLATION)
def an_address_in_the_excluded_network(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    return Server(constrained(None, [network("0.0.0.0/0")]).leaf([host, "192.0.2.1"]))


@scenario()
def names_are_free_where_addresses_alone_are_constrained(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10.

    Restrictions apply only to the form that they are of.
    """
    return Server(constrained([network("192.0.2.0/24")], [network("::/0")]).leaf(host))


@scenario(Defect.MALFORMED, VIOLATION, curl_says=ACCEPTS, why=NOT_LOOKED_AT)
def a_network_whose_mask_has_holes(host: str) -> Server:
    """Blocked as malformed, constraint_violation: RFC 5280 4.2.1.10, RFC 4632 3.1."""
    holes = subtree(0x87, bytes.fromhex("c0000200ff00ff00"))
    return Server(raw_constraints(holes).leaf(host))


@scenario(Defect.MALFORMED, VIOLATION, curl_says=ACCEPTS, why=NOT_LOOKED_AT)
def a_network_of_five_octets(host: str) -> Server:
    """Blocked as malformed, constraint_violation: RFC 5280 4.2.1.10."""
    return Server(raw_constraints(subtree(0x87, bytes(5))).leaf(host))


# --- directoryName


def subject(**attributes: str) -> x509.Name:
    """A name of these attributes (``O``, ``OU``, ``CN`` …), each of its own relative name."""
    kinds = {
        "C": NameOID.COUNTRY_NAME,
        "O": NameOID.ORGANIZATION_NAME,
        "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
        "CN": NameOID.COMMON_NAME,
        "email": NameOID.EMAIL_ADDRESS,
    }
    return x509.Name([x509.NameAttribute(kinds[kind], text) for kind, text in attributes.items()])


@scenario(VIOLATION)
def a_subject_outside_the_permitted_directory(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    return Server(constrained([x509.DirectoryName(common_name("other.example"))]).leaf(host))


@scenario()
def a_subject_below_the_permitted_directory(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10, 7.1."""
    ca = constrained([x509.DirectoryName(subject(C="DE", O="Good"))])
    return Server(ca.leaf(host, subject=subject(C="DE", O="GOOD", CN="www")))


@scenario(VIOLATION)
def a_subject_with_the_permitted_parts_in_another_order(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10, 7.1."""
    ca = constrained([x509.DirectoryName(subject(C="DE", O="Good"))])
    return Server(ca.leaf(host, subject=subject(O="Good", C="DE", CN="www")))


@scenario(VIOLATION)
def an_excluded_subject_whatever_its_case(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c), 7.1."""
    return Server(constrained(None, [x509.DirectoryName(subject(O="Bad"))]).leaf(host, subject=subject(O="BAD")))


@scenario(VIOLATION)
def a_directory_name_among_the_alternative_names(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    ca = constrained([x509.DirectoryName(subject(O="Good"))])
    san = [x509.DNSName(host), x509.DirectoryName(subject(O="Bad"))]
    return Server(ca.leaf(host, subject=subject(O="Good"), san=san))


@scenario()
def an_empty_subject_and_a_permitted_directory(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (b).

    Where there is no name of the form, the certificate is acceptable.
    """
    ca = constrained([x509.DirectoryName(subject(O="Good"))])
    return Server(ca.leaf(host, subject=x509.Name([]), san_critical=True))


@scenario(VIOLATION)
def constraints_on_an_intermediates_name(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    limits = x509.NameConstraints(None, [x509.DirectoryName(common_name("Issuing"))])
    return Server(root().intermediate("Upper", name_constraints=limits).intermediate("Issuing").leaf(host))


@scenario()
def a_self_issued_intermediate(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (b), (c).

    Constraints do not bind it, unless it is the last of the path.
    """
    limits = x509.NameConstraints(None, [x509.DirectoryName(common_name("Rolled"))])
    return Server(root().intermediate("Rolled", name_constraints=limits).intermediate("Rolled").leaf(host))


@scenario(VIOLATION)
def a_self_issued_server_certificate(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b), (c).

    The last of the path is bound, self-issued or not.
    """
    limits = x509.NameConstraints(None, [x509.DirectoryName(common_name("Same"))])
    ca = root().intermediate("Same", name_constraints=limits)
    return Server(ca.leaf(host, subject=common_name("Same")))


# --- rfc822Name and other forms


def with_mailbox(ca: Authority, host: str, mailbox: str) -> Issued:
    return ca.leaf(host, san=[x509.DNSName(host), x509.RFC822Name(mailbox)])


@scenario(VIOLATION)
def a_mailbox_outside_the_permitted_host(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (b)."""
    return Server(with_mailbox(constrained([x509.RFC822Name("good.example")]), host, "me@other.example"))


@scenario()
def a_mailbox_on_the_permitted_host(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    return Server(with_mailbox(constrained([x509.RFC822Name("good.example")]), host, "me@GOOD.example"))


@scenario(VIOLATION)
def a_mailbox_below_the_permitted_host(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10.

    Of a mailbox's constraint a host is that host alone; below it are those with a leading dot.
    """
    return Server(with_mailbox(constrained([x509.RFC822Name("good.example")]), host, "me@a.good.example"))


@scenario(VIOLATION)
def an_excluded_mailbox(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.3 (c)."""
    return Server(with_mailbox(constrained(None, [x509.RFC822Name("me@good.example")]), host, "me@good.example"))


@scenario(VIOLATION, chromium_says=ACCEPTS, why="Chromium looks for mailboxes among the alternative names alone.")
def a_mail_address_in_the_subject(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    ca = constrained([x509.RFC822Name("good.example")])
    return Server(ca.leaf(host, subject=subject(CN="www", email="me@other.example")))


@scenario(VIOLATION)
def a_uri_where_uris_are_constrained(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10.

    Process the constraint or reject the certificate; of URIs we do not.
    """
    leaf = constrained([x509.UniformResourceIdentifier("good.example")]).leaf(
        host, san=[x509.DNSName(host), x509.UniformResourceIdentifier("https://other.example/")]
    )
    return Server(leaf)


@scenario(VIOLATION)
def a_form_that_is_constrained_and_not_understood(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    leaf = constrained([x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]).leaf(
        host, san=[x509.DNSName(host), x509.RegisteredID(x509.ObjectIdentifier("1.2.4"))]
    )
    return Server(leaf)


@scenario()
def a_form_that_is_constrained_and_not_there(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10."""
    return Server(constrained([x509.UniformResourceIdentifier("good.example")]).leaf(host))


# --- which certificates bind


@scenario()
def names_of_several_forms_within_the_constraints(host: str) -> Server:
    """Good: RFC 5280 6.1.3 (b), (c)."""
    ca = constrained(
        [x509.DNSName(host), network("192.0.2.0/24"), x509.DirectoryName(common_name("Good.Example"))],
        [x509.DNSName(f"bad.{host}"), network("192.0.2.128/25")],
    )
    names = [host, f"www.{host}", f"*.w.{host}", "192.0.2.1"]
    return Server(ca.leaf(names, subject=common_name("good.example")))


@scenario(VIOLATION)
def two_constraints_that_both_bind(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (g).

    Permitted is what every CA above permits.
    """
    upper = constrained([x509.DNSName(host), x509.DNSName("other.example")])
    lower = upper.intermediate("Narrower", name_constraints=x509.NameConstraints([x509.DNSName("other.example")], None))
    return Server(lower.leaf(host))


@scenario(VIOLATION)
def a_constraint_that_a_ca_below_widens(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 6.1.4 (g)."""
    upper = constrained([x509.DNSName("other.example")])
    lower = upper.intermediate("Wider", name_constraints=x509.NameConstraints([x509.DNSName("example")], None))
    return Server(lower.leaf(host))


@scenario(VIOLATION)
def constraints_of_the_anchor(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10, RFC 5937 3.2."""
    limits = x509.NameConstraints([x509.DNSName("other.example")], None)
    return Server(Authority.root("Limited", name_constraints=limits).intermediate().leaf(host))


@scenario(VIOLATION)
def constraints_that_are_not_critical(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    limits = x509.NameConstraints(None, [x509.DNSName(host)])
    return Server(root().intermediate("Quiet", name_constraints=limits, name_constraints_critical=False).leaf(host))


@scenario(
    VIOLATION, curl_says=ACCEPTS, chromium_says=ACCEPTS, why="Neither looks for constraints where they bind nobody."
)
def constraints_on_a_server_certificate(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(issuing().leaf(host, name_constraints=x509.NameConstraints([x509.DNSName(host)], None)))


@scenario(VIOLATION)
def a_constraint_with_a_maximum(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10."""
    return Server(raw_constraints(subtree(0x82, b"other.example", tlv(0x81, b"\x01"), excluded=True)).leaf(host))


@scenario(*UNREADABLE_CA, as_it_is=UNREADABLE_CA[:2])
def constraints_that_cannot_be_read(host: str) -> Server:
    """Blocked as malformed, constraint_violation, incomplete_chain: RFC 5280 4.2.1.10."""
    return Server(raw_constraints(b"\x30\x05\xa0").leaf(host))


@scenario(Defect.MALFORMED, VIOLATION, curl_says=ACCEPTS, why="For OpenSSL they allow everything.")
def constraints_that_say_nothing(host: str) -> Server:
    """Blocked as malformed, constraint_violation: RFC 5280 4.2.1.10.

    A CA must not issue them empty.
    """
    return Server(raw_constraints(b"\x30\x00").leaf(host))


@scenario()
def an_address_where_names_alone_are_constrained(host: str) -> Server:
    """Good: RFC 5280 4.2.1.10.

    A CA that is to have no addresses needs them excluded.
    """
    ca = constrained([x509.DNSName("other.example")])
    return Server(ca.leaf("127.80.1.3", subject=common_name("Some Server")), host="127.80.1.3")


@scenario(VIOLATION, as_it_is=(), chromium_says=ACCEPTS, why="Chromium never reads a host from a common name.")
def a_common_name_that_looks_like_a_host(host: str) -> Server:
    """Blocked as constraint_violation: RFC 5280 4.2.1.10, RFC 9525 2.

    No host is looked for in a common name here. OpenSSL still constrains one where there is no dNSName; what either
    finds counts.
    """
    ca = constrained([x509.DNSName("other.example")])
    return Server(ca.leaf("127.80.1.4", subject=common_name(host)), host="127.80.1.4")
