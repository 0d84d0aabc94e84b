"""Hashes of passwords, names of users, and htpasswd files."""

from __future__ import annotations

import bcrypt
import pytest

from config.passwords import (
    DECOY,
    hash_problem,
    make,
    matches,
    name_problem,
    parse_htpasswd,
    password_problem,
)

BCRYPT = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def test_a_hash_is_of_one_password_in_any_form_of_unicode() -> None:
    made = make("pa\u00dfw\u00f6rter")
    assert made.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hash_problem(made) is None
    assert matches(made, "pa\u00dfwo\u0308rter")
    assert not matches(made, "passworter")


def test_htpasswds_bcrypt_is_known_and_no_longer_password_is_taken_for_its_beginning() -> None:
    for prefix in ("$2y$", "$2b$", "$2a$"):
        assert matches(prefix + BCRYPT[4:], "secret")
    assert not matches(BCRYPT, "secret2")
    long = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert matches(long, "x" * 72)
    assert not matches(long, "x" * 73)
    assert not matches(BCRYPT, "secret\0")


@pytest.mark.parametrize(
    ("hashed", "problem"),
    [
        ("$apr1$abcdefgh$abcdefghijklmnopqrstuv", "MD5 (apr1)"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
        ("$1$abcdefgh$abcdefghijklmnopqrstuv", "MD5 (crypt)"),
        ("$6$salt$hash", "SHA-512 crypt"),
        ("rqXexS6ZhobKA", "by crypt"),
        ("secret", "no hash that is known"),
        ("", "no hash that is known"),
        (BCRYPT.replace("$04$", "$20$"), "bcrypt of cost 20"),
        (BCRYPT[:-1], "no hash that is known"),
        (DECOY.replace("m=19456", "m=4194304"), "asks for too much"),
        ("$argon2id$v=19$m=19456,t=2,p=1$x", "damaged"),
    ],
    ids=[
        "apr1",
        "sha1",
        "md5-crypt",
        "sha512-crypt",
        "crypt",
        "clear",
        "empty",
        "bcrypt-dear",
        "bcrypt-short",
        "argon2-dear",
        "argon2-damaged",
    ],  # hashes have a salt of their own each time, and names of tests are the same in all processes
)
def test_weak_and_damaged_hashes_are_refused_by_name(hashed: str, problem: str) -> None:
    assert problem in (hash_problem(hashed) or "")
    assert parse_htpasswd(f"a:{hashed}\n".encode()).users == {}


@pytest.mark.parametrize("name", ["", "a:b", " a", "a\n", "a\u202eb", "n" * 129, "a@acme", "@acme"])
def test_what_cannot_name_a_user(name: str) -> None:
    assert name_problem(name)


@pytest.mark.parametrize("name", ["a", "a@b.example", "J\u00fcrgen Klein", "DOMAIN\\user", "@", "n" * 128])
def test_what_can(name: str) -> None:
    assert name_problem(name) is None


def test_passwords_that_cannot_be() -> None:
    found = [password_problem(each) for each in ("short", "new\nlines in it", "x" * 1025, "long enough")]
    assert [each is None for each in found] == [False, False, False, True]
    assert not any("lines" in (each or "") for each in found)


def test_a_file_is_read_line_by_line_and_no_problem_tells_what_stands_there() -> None:
    text = f"# users\n\nalice:{BCRYPT}\r\nbob:{{SHA}}topsecret\nno colon\nalice:{DECOY}\nx@acme:{DECOY}\n".encode()
    found = parse_htpasswd(text + b"\xff:x\n")
    assert found.users == {"alice": BCRYPT}
    assert [each.partition(":")[0] for each in found.problems] == ["4", "5", "6", "7", "8"]
    assert "topsecret" not in str(found.problems)
    assert BCRYPT not in repr(found)
