from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import Console, Settings
from control import accounts, first_owner
from control.authorisation import Role
from control.breached_passwords import LONGEST_LINE, SAMPLES, UnusableListError, holds, problem_of
from control.errors import Refused
from control.installation import Installation
from control.passwords import check_new
from tests.control.breached import sha1, write_list
from tests.control.conftest import CHEAP, PASSWORD
from tests.harness.pki import NOW

GOOD = sha1(PASSWORD)


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return tmp_path / "breached.txt"


@settings(max_examples=30, deadline=None)
@given(
    members=st.sets(st.integers(0, 39), max_size=30),
    counts=st.lists(st.sampled_from(["", ":1", ":42", ":123456789", f":{10**19}"]), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
    closed=st.booleans(),
)
def test_a_list_holds_what_is_in_it_and_nothing_else(
    members: set[int], counts: list[str], end: str, closed: bool
) -> None:
    hashes = sorted(sha1(str(each)) for each in members)
    text = end.join(f"{each}{counts[n % len(counts)]}" for n, each in enumerate(hashes))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list"
        path.write_bytes((text + (end if closed and members else "")).encode())
        assert problem_of(str(path)) is None
        assert {each for each in range(40) if holds(str(path), {str(each)})} == members


def test_a_question_costs_a_few_short_reads_however_long_the_list(
    listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_list(listed, map(str, range(50_000)))
    reads = []
    pread = os.pread

    def counting(fd: int, length: int, offset: int) -> bytes:
        reads.append(length)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", counting)
    for password in ("0", "49999", "25000", "not in it"):
        reads.clear()
        assert holds(str(listed), {password}) == password.isdigit()
        assert 0 < len(reads) <= SAMPLES + listed.stat().st_size.bit_length()
        assert max(reads) == 2 * LONGEST_LINE
    reads.clear()
    assert problem_of(str(listed)) is None
    assert len(reads) == SAMPLES


@pytest.mark.parametrize(
    "content",
    [
        f"{GOOD.lower()}:1\n", f"{GOOD}:\n", f"{GOOD}:1x\n", f"{GOOD[:-1]}:1\n", f"{GOOD}0\n", f"{GOOD} 1\n", "\n",
        f"{GOOD}:1\n\n", f"{GOOD}:{'1' * 21}\n", f"\ufeff{GOOD}:1\n", "password\n", "\0" * 4096, GOOD * 100,
        f"{GOOD}:1\r\r\n", f"{GOOD}:1\r{GOOD}:1\r",
    ],
)  # fmt: skip
def test_what_is_no_list_of_hashes_is_told_and_answers_nothing(listed: Path, content: str) -> None:
    listed.write_bytes(content.encode())
    assert f"console.breached_passwords: {listed}: what is at byte" in str(problem_of(str(listed)))
    with pytest.raises(UnusableListError, match="is no such hash; expected SHA-1 hashes in upper-case hex, sorted"):
        holds(str(listed), {"horse"})


def test_a_list_that_is_not_sorted_is_told_and_answers_nothing(listed: Path) -> None:
    hashes = sorted(sha1(str(each)) for each in range(1000))
    listed.write_text("\n".join(reversed(hashes)))
    assert "is not in ascending order" in str(problem_of(str(listed)))
    with pytest.raises(UnusableListError, match="is not in ascending order"):
        holds(str(listed), {"0"})
    # As by downloads that were put one behind another.
    listed.write_text("\n".join([*hashes[500:], *hashes[:500]]))
    assert "is not in ascending order" in str(problem_of(str(listed)))


def test_what_the_samples_leave_out_is_found_by_the_question_that_meets_it(listed: Path) -> None:
    hashes = sorted(sha1(str(each)) for each in range(1024))
    lines = [f"{each}\n" for each in hashes]
    lines[512] = "x" * 40 + "\n"  # where a bisection begins, and no sample is
    listed.write_text("".join(lines))
    assert problem_of(str(listed)) is None
    with pytest.raises(UnusableListError, match="is no such hash"):
        holds(str(listed), {"7"})


def test_what_is_no_file_is_told_and_answers_nothing(tmp_path: Path) -> None:
    pipe, nowhere = tmp_path / "pipe", tmp_path / "nowhere"
    os.mkfifo(pipe)
    for path, why in ((pipe, "is no file"), (tmp_path, "is no file"), (nowhere, "No such file or directory")):
        assert f"{path}" in str(problem_of(str(path)))
        with pytest.raises(UnusableListError, match=why):
            holds(str(path), {"horse"})


def test_a_list_that_takes_the_place_of_another_counts_at_once(listed: Path, tmp_path: Path) -> None:
    write_list(listed, ["one", "two"])
    write_list(tmp_path / "newer", ["two", "three"], end="\r\n")
    assert [holds(str(listed), {each}) for each in ("one", "two", "three")] == [True, True, False]
    (tmp_path / "newer").replace(listed)
    assert [holds(str(listed), {each}) for each in ("one", "two", "three")] == [False, True, True]
    listed.write_bytes(b"")
    assert not holds(str(listed), {"one", "two", "three"})


def with_list(path: Path) -> Settings:
    return Settings(console=Console(breached_passwords=str(path)))


def test_a_password_is_looked_for_as_it_is_hashed_here_and_as_it_was_typed(listed: Path) -> None:
    write_list(listed, ["ﬁne breached horses", "plain breached horses", "two\u00a0breached horses"])
    asked = with_list(listed)
    for typed in (
        "ﬁne breached horses",
        "plain breached horses",
        "plain\u2003breached horses",
        "two\u00a0breached horses",
    ):
        with pytest.raises(Refused, match="is in the list of breached passwords") as caught:
            check_new(typed, "ann", asked)
        assert typed not in str(caught.value)
        assert sha1(typed) not in str(caught.value)
    assert check_new("two breached horses", "ann", asked) == "two breached horses"


def test_every_way_to_a_new_password_asks_the_list_and_fails_closed(
    inst: Installation, listed: Path, tmp_path: Path
) -> None:
    write_list(listed, ["a very breached password"])
    asked = replace(inst, settings=with_list(listed))
    token = first_owner.link(asked, NOW)
    assert token is not None

    def ways(password: str) -> None:
        with pytest.raises(Refused, match="list of breached"):
            first_owner.redeem(asked, token, "ann", password, NOW, CHEAP)
        with pytest.raises(Refused, match="list of breached"):
            accounts.create(asked, "bob", password, Role.OWNER, None, NOW, CHEAP)
        accounts.create(inst, "carol", PASSWORD, Role.AUDITOR, None, NOW, CHEAP)
        with pytest.raises(Refused, match="list of breached"):
            accounts.set_password(asked, "carol", password, NOW, CHEAP)
        accounts.delete(inst, "carol", NOW)

    ways("a very breached password")
    listed.write_text("no list any more\n")
    ways(PASSWORD)
    assert accounts.listing(inst) == []
    write_list(listed, ["a very breached password"])
    assert first_owner.redeem(asked, token, "ann", PASSWORD, NOW, CHEAP).name == "ann"
