"""What each defect of a server is for a person who knows nothing of certificates: what happened, and what it means."""

from __future__ import annotations

from typing import NamedTuple

from certs.verdict import Defect


class Words(NamedTuple):
    """``what`` is a short sentence, ``means`` one or two; ``{host}`` stands for the host's name."""

    what: str
    means: str


WORDS: dict[Defect, Words] = {
    Defect.MALFORMED: Words(
        "Its certificate is damaged, or was not made properly.",
        "It breaks the rules that certificates have to keep to, so nobody can tell for sure what it vouches for.",
    ),
    Defect.BAD_SIGNATURE: Words(
        "Its certificate was changed or forged.",
        "A signature in it is false. Somebody may be posing as {host}.",
    ),
    Defect.OWN_CA: Words(
        "It shows a certificate that only this proxy itself may show.",
        "Either there is another proxy on the way, or somebody uses a key of ours who should not have it.",
    ),
    Defect.REVOKED: Words(
        "Its certificate was taken back by those who issued it.",
        "That is done where a key was stolen, for example: somebody else may be able to pose as {host}.",
    ),
    Defect.WEAK_KEY: Words(
        "Its key is too weak.",
        "Keys like that can be broken, and whoever does so can pose as {host} or read along.",
    ),
    Defect.WEAK_SIGNATURE: Words(
        "Its certificate is signed in a way that is no longer safe.",
        "Signatures like that can be forged.",
    ),
    Defect.CONSTRAINT_VIOLATION: Words(
        "Its certificate was issued by somebody who was not allowed to issue it.",
        "Whoever vouches for it may not do so at all, or not for a name like this.",
    ),
    Defect.WRONG_PURPOSE: Words(
        "Its certificate is meant for something else than a server.",
        "It may be good for signing mail or other certificates, for example, but not for this.",
    ),
    Defect.SELF_SIGNED: Words(
        "It vouches for itself.",
        "Nobody else confirms that this is {host}. Anybody can make such a certificate; printers and other devices "
        "often have one.",
    ),
    Defect.INCOMPLETE_CHAIN: Words(
        "A part of its proof is missing.",
        "The server does not show who stands behind its certificate. Most often it was not set up properly.",
    ),
    Defect.UNTRUSTED_ROOT: Words(
        "Its certificate was issued by somebody who is not trusted here.",
        "It may be the private authority of a company, or one that somebody has made up to pose as {host}.",
    ),
    Defect.EXPIRED: Words(
        "A certificate has expired.",
        "Its time is over, so nobody vouches for it any more. Most often somebody has forgotten to renew it.",
    ),
    Defect.NOT_YET_VALID: Words(
        "A certificate is not valid yet.",
        "Its time has not begun. It was put in place too early, or a clock is wrong.",
    ),
    Defect.HOSTNAME_MISMATCH: Words(
        "Its certificate is for another name.",
        "The server has not proved that it is {host}. You may have come to another server than the one you wanted.",
    ),
    Defect.REVOCATION_UNKNOWN: Words(
        "Nobody could be asked whether its certificate is still good.",
        "Those who issued it can take it back, and did not tell whether they have. It may work again in a while.",
    ),
    Defect.PROTOCOL: Words(
        "No secure connection could be agreed on.",
        "The server offers only what is outdated, wants a certificate from you, or does not speak TLS on this port.",
    ),
}
