"""What each row of the error settings is, for who decides about it: what it means, and who is at risk."""

from __future__ import annotations

from dataclasses import dataclass

from certs.verdict import UNTRUSTED, Action, Defect


@dataclass(frozen=True, slots=True)
class About:
    """``title``: the row in words. ``means``: what is wrong with the server. ``risk``: what letting it pass costs."""

    title: str
    means: str
    risk: str


ABOUT: dict[str, About] = {
    UNTRUSTED: About(
        "Untrusted certificates",
        "The master setting: nobody who is trusted vouches for the server. It holds for the three below that are not "
        "set themselves.",
        "Anybody between this proxy and the server can pose as it. For a CA of your own or a partner's, add a trusted "
        "CA instead.",
    ),
    Defect.SELF_SIGNED: About(
        "Self-signed",
        "The server's certificate is its own issuer. Printers, appliances and test servers often have one.",
        "Anybody can make one for any name, so it proves nothing. Better: an exception that is pinned to the "
        "certificate.",
    ),
    Defect.UNTRUSTED_ROOT: About(
        "Untrusted root",
        "The chain is complete, and ends in a root that is neither in the common store nor a trusted CA of this "
        "tenant.",
        "It may be a company's private CA, or one that an attacker has made up. Everybody who goes there is at risk.",
    ),
    Defect.INCOMPLETE_CHAIN: About(
        "Incomplete chain",
        "The server does not send the certificates between its own and a root, and they could not be found.",
        "Mostly a server that was set up wrongly; but who issued its certificate is not known, as with an untrusted "
        "root.",
    ),
    Defect.EXPIRED: About(
        "Expired",
        "A certificate of the chain is past its end.",
        "Mostly a renewal that was forgotten. But revocation of expired certificates is no longer told, so a stolen "
        "key may pass.",
    ),
    Defect.NOT_YET_VALID: About(
        "Not yet valid",
        "The time of a certificate of the chain has not begun.",
        "Mostly a certificate that was put in place too early, or a clock that is wrong; look at the clock of this "
        "machine first.",
    ),
    Defect.HOSTNAME_MISMATCH: About(
        "Wrong host name",
        "The certificate is good, for another name than the one that was asked for.",
        "Whoever has a certificate for any name at all can then pose as every server. Prefer an exception for the one "
        "host.",
    ),
    Defect.REVOKED: About(
        "Revoked",
        "Whoever issued the certificate has taken it back.",
        "Its key is often stolen. Whoever goes there may be talking to the thief.",
    ),
    Defect.REVOCATION_UNKNOWN: About(
        "Revocation not known",
        "Nobody could be asked whether the certificate was taken back.",
        "An attacker who can suppress the answer can use a revoked certificate; blocking costs connections whenever a "
        "CA's service is down.",
    ),
    Defect.WEAK_KEY: About(
        "Weak key",
        "RSA under 2048 bits, a curve under 256, DSA, or a weak key exchange.",
        "With enough computers the key can be found; what was recorded can be read then.",
    ),
    Defect.WEAK_SIGNATURE: About(
        "Weak signature",
        "MD5 or SHA-1 below the root.",
        "Certificates with such signatures can be forged.",
    ),
    Defect.MALFORMED: About(
        "Malformed",
        "A certificate cannot be parsed, repeats an extension, has an unknown critical one, or is far too large.",
        "What it vouches for cannot be told for sure. There is seldom a reason to let it pass.",
    ),
    Defect.BAD_SIGNATURE: About(
        "Bad signature",
        "A signature in the chain does not verify.",
        "Something is broken, or somebody has changed it. There is seldom a reason to let it pass.",
    ),
    Defect.CONSTRAINT_VIOLATION: About(
        "Issued without the right to",
        "A CA in the chain may not issue certificates, or not this one: path length, name constraints, key usage.",
        "A CA was set up wrongly, or a certificate that is none of a CA was used to make others.",
    ),
    Defect.WRONG_PURPOSE: About(
        "Wrong purpose",
        "The certificate is not for TLS servers: for mail or clients, say, or it is a CA's own.",
        "Who could get one for another purpose could pose as a server.",
    ),
    Defect.OWN_CA: About(
        "One of our own CAs",
        "The chain holds the key with which a signing CA of this installation issues leaves.",
        "No web server has such a certificate: there is another proxy on the way, or a key of ours is in other hands.",
    ),
    Defect.PROTOCOL: About(
        "Failed handshake",
        "TLS itself failed: version, cipher, an alert, or a server that does not speak TLS.",
        "There is nothing to judge. Bypassed, the client sees for itself.",
    ),
}
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Nobody trusted vouches for it", (UNTRUSTED, "self_signed", "untrusted_root", "incomplete_chain")),
    ("Name and dates", ("hostname_mismatch", "expired", "not_yet_valid")),
    ("Revocation", ("revoked", "revocation_unknown")),
    ("Weak cryptography", ("weak_key", "weak_signature")),
    (
        "Broken, or somebody at work",
        ("malformed", "bad_signature", "constraint_violation", "wrong_purpose", "own_ca", "protocol"),
    ),
)
"""Every row, as the page has them: together where one decides about them together."""
ACTIONS: dict[Action, str] = {
    Action.BLOCK: "Block",
    Action.WARN: "Warn",
    Action.BYPASS: "Bypass",
    Action.ALLOW: "Allow",
}
ACTION_MEANS: dict[Action, str] = {
    Action.BLOCK: "the client gets a page that says why; the server gets nothing",
    Action.WARN: "the client is shown a certificate that it warns of, and may go on",
    Action.BYPASS: "not decrypted: the client judges the server itself",
    Action.ALLOW: "as if nothing were wrong",
}


def title(row: str) -> str:
    """A row in words."""
    about = ABOUT.get(row)
    return row if about is None else about.title
