"""Policies that a CA requires: what RFC 5280 says of them case by case, and what OpenSSL says of chains by chance."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from certs import policies
from certs.facts import facts_of
from tests.harness.der_writing import integer, object_identifier, tlv
from tests.harness.pki import Authority, Issued, Raw, kept_key
from tests.harness.programs import need

ONE, TWO, THREE, ANY = "1.2.3.1", "1.2.3.2", "1.2.3.3", "2.5.29.32.0"
ROOT = Authority.root("Root", key=kept_key("ec256"))


def named(*oids: str) -> Raw:
    """certificatePolicies."""
    return Raw("2.5.29.32", tlv(0x30, b"".join(tlv(0x30, object_identifier(oid)) for oid in oids)))


def mapped(*pairs: tuple[str, str]) -> Raw:
    """policyMappings: the issuer's, the subject's."""
    both = (tlv(0x30, object_identifier(ours) + object_identifier(theirs)) for ours, theirs in pairs)
    return Raw("2.5.29.33", tlv(0x30, b"".join(both)), critical=True)


def limits(explicit: int | None = None, mapping: int | None = None) -> Raw:
    """policyConstraints: after how many certificates a policy has to be there, and none is mapped any more."""
    fields = [tlv(tag, integer(skip)[2:]) for tag, skip in ((0x80, explicit), (0x81, mapping)) if skip is not None]
    return Raw("2.5.29.36", tlv(0x30, b"".join(fields)), critical=True)


def inhibited(skip: int) -> Raw:
    """inhibitAnyPolicy."""
    return Raw("2.5.29.54", integer(skip), critical=True)


def line(*extensions: Sequence[Raw], self_issued: Sequence[int] = ()) -> Issued:
    """A server's certificate below CAs with these extensions, the topmost first, and its own last."""
    at: Authority = ROOT
    for place, extra in enumerate(extensions[:-1]):
        name = at.subject.rfc4514_string().removeprefix("CN=") if place in self_issued else f"CA {place}"
        at = at.intermediate(name, extra=extra, key=kept_key("ec256", 1 + place))
    return at.leaf(extra=extensions[-1], key=kept_key("ec256", 9))


def passes(issued: Issued) -> bool:
    return policies.missing([facts_of(certificate) for certificate in issued.chain()]) is None


REQUIRED = limits(explicit=0)
CASES = {
    "nothing is required": (True, [[named(ONE)], []]),
    "it is there": (True, [[named(ONE), REQUIRED], [named(ONE)]]),
    "it is not there": (False, [[named(ONE), REQUIRED], []]),
    "another is there": (False, [[named(ONE), REQUIRED], [named(TWO)]]),
    "one of several is there": (True, [[named(ONE, TWO), REQUIRED], [named(THREE, TWO)]]),
    "the CA has any": (True, [[named(ANY), REQUIRED], [named(TWO)]]),
    "the CA has none itself": (False, [[REQUIRED], [named(ONE)]]),
    "the server has any": (True, [[named(ONE), REQUIRED], [named(ANY)]]),
    "any is inhibited": (False, [[named(ONE), REQUIRED, inhibited(0)], [named(ANY)]]),
    "any is inhibited below the next": (True, [[named(ONE), REQUIRED, inhibited(1)], [named(ANY)]]),
    "any of the CA counts though it inhibits it below": (True, [[named(ANY), REQUIRED, inhibited(0)], [named(ONE)]]),
    "it is required two below, and there is one": (True, [[named(ONE), limits(explicit=2)], []]),
    "it is required two below, and there are two": (False, [[named(ONE), limits(explicit=2)], [], []]),
    "the last takes one off": (False, [[named(ONE), limits(explicit=1)], []]),
    "the server requires it of itself": (False, [[], [REQUIRED, named(ONE)]]),
    "the server requires it of itself, and all have it": (True, [[named(ONE)], [REQUIRED, named(ONE)]]),
    "the server requires it of what is below it": (True, [[], [limits(explicit=1)]]),
    "it was lost between": (False, [[named(ONE), REQUIRED], [], [named(ONE)]]),
    "it is mapped": (True, [[named(ONE), mapped((ONE, TWO)), REQUIRED], [named(TWO)]]),
    "it is mapped away": (False, [[named(ONE), mapped((ONE, TWO)), REQUIRED], [named(ONE)]]),
    "another is mapped": (True, [[named(ONE), mapped((THREE, TWO)), REQUIRED], [named(ONE)]]),
    "what is mapped is not its own": (False, [[named(ONE), mapped((THREE, TWO)), REQUIRED], [named(TWO)]]),
    "any is mapped from by name": (True, [[named(ANY), mapped((ONE, TWO)), REQUIRED], [named(TWO)]]),
    "mapping is inhibited": (
        False,
        [[named(ONE), limits(0, mapping=0)], [named(ONE), mapped((ONE, TWO))], [named(TWO)]],
    ),
    "mapping is inhibited, and what is mapped does not count either": (
        False,
        [[named(ONE), limits(0, mapping=0)], [named(ONE), mapped((ONE, TWO))], [named(ONE)]],
    ),
    "mapping is inhibited below the next": (
        True,
        [[named(ONE), limits(0, mapping=1)], [named(ONE), mapped((ONE, TWO))], [named(TWO)]],
    ),
}


@pytest.mark.parametrize(("good", "extensions"), CASES.values(), ids=CASES.keys())
def test_a_policy_that_is_required_has_to_be_valid(good: bool, extensions: Sequence[Sequence[Raw]]) -> None:
    assert passes(line(*extensions)) == good


def test_a_key_that_was_rolled_over_takes_nothing_off() -> None:
    extensions = [[limits(explicit=1), named(ONE)], [named(ONE)], []]
    assert not passes(line(*extensions))
    assert passes(line([limits(explicit=2), named(ONE)], [named(ONE)], [], self_issued=[1]))


def test_any_of_a_key_that_was_rolled_over_counts_though_it_is_inhibited() -> None:
    extensions = [[named(ONE), REQUIRED, inhibited(0)], [named(ANY)], [named(ONE)]]
    assert not passes(line(*extensions))
    assert passes(line(*extensions, self_issued=[1]))


def test_what_cannot_be_read_is_no_policy() -> None:
    broken = [
        Raw("2.5.29.33", bytes.fromhex("30053003060100"), critical=True),
        Raw("2.5.29.33", b"\x30\x82", critical=True),
        mapped((ANY, ONE)),
        mapped((ONE, ANY)),
    ]
    for one in broken:
        assert not passes(line([named(ONE), one, REQUIRED], [named(ONE)]))
        assert passes(line([named(ONE), one], [named(ONE)]))


def test_who_requires_it_is_said() -> None:
    issued = line([named(ONE), REQUIRED], [named(ONE)], [])
    lack = policies.missing([facts_of(certificate) for certificate in issued.chain()])
    assert lack is not None
    assert (lack.required_by, lack.why) == (2, "no policy is valid along the whole path")


def by_chance(dice: random.Random) -> list[list[Raw]]:
    """Three or four certificates, most of them with what policies can be told of."""
    some = (ONE, TWO, THREE, ANY)
    made = []
    for place in range(levels := dice.choice((2, 3, 4))):
        extra = []
        if dice.random() < 0.9:
            extra.append(named(*dice.sample(some, dice.choice((1, 1, 2)))))
            if place < levels - 1 and dice.random() < 0.4:
                extra.append(mapped(*{(dice.choice(some[:3]), dice.choice(some[:3])) for _ in range(2)}))
        if dice.random() < 0.6:
            extra.append(limits(dice.choice((0, 0, 0, 1, 2)), dice.choice((None, None, 0, 1))))
        if dice.random() < 0.3:
            extra.append(inhibited(dice.choice((0, 1))))
        made.append(extra)
    return made


def test_openssl_comes_to_the_same_for_chains_by_chance(tmp_path: Path) -> None:
    """Its tree, given anyPolicy as what is acceptable: RFC 5280's own way, and code that is not ours."""
    need("openssl")
    dice = random.Random(5280)  # noqa: S311 - the same chains every time
    (tmp_path / "root.pem").write_bytes(ROOT.pem())
    found = {True: 0, False: 0}
    for number in range(60):
        extensions = by_chance(dice)
        issued = line(*extensions, self_issued=[1] if dice.random() < 0.3 else ())
        leaf, chain = tmp_path / f"{number}.pem", tmp_path / f"{number}-chain.pem"
        leaf.write_bytes(issued.pem())
        chain.write_bytes(issued.chain_pem())
        done = subprocess.run(
            ["openssl", "verify", "-CAfile", str(tmp_path / "root.pem"), "-untrusted", str(chain),
             "-policy", ANY, "-policy_check", str(leaf)],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        good = done.returncode == 0
        assert good or "error 43 " in done.stderr, done.stderr
        assert passes(issued) == good, (number, extensions, done.stderr)
        found[good] += 1
    assert min(found.values()) > 10, found
