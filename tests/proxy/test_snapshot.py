"""What becomes of the working sets while the store cannot be read, on a clock that the test sets."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.expiry import Validity
from certs.names import parse_host
from certs.verdict import Action, Defect, Finding, Verdict
from config.settings import Settings
from control import bypass_rules, error_settings, host_exceptions, signing_cas, tenants, trusted_cas
from control.installation import Installation
from control.signing_cas import Upload
from proxy.log import Log
from proxy.snapshot import Snapshots
from store.engine import DATABASE_FILE, Store
from tests.harness.pki import DAY, Authority
from tests.harness.pki import NOW as PKI_NOW

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
PATIENCE = 3600.0
ISSUING = Authority.root("Theirs").intermediate("Issuing")


class Clocks:
    """A wall clock that is set, and one that only goes on."""

    def __init__(self) -> None:
        self.wall = NOW + timedelta(minutes=1)
        self.since_boot = 500.0


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / DATABASE_FILE


@pytest.fixture
def settings(tmp_path: Path, path: Path) -> Settings:
    made = Settings(state_dir=tmp_path / "state")
    Installation.open(made, NOW).close()
    return made


@pytest.fixture
def snapshots(settings: Settings, path: Path, clocks: Clocks, tmp_path: Path) -> Iterator[Snapshots]:
    with (tmp_path / "log").open("wb") as log, Store.open(path, create=False) as store:
        made = Snapshots(
            store, (), ["default"], Log(log.fileno(), "info", "test", lambda: 0.0), lambda: clocks.wall, PATIENCE,
            lambda: clocks.since_boot,
        )  # fmt: skip
        made.load()
        yield made


def look(snapshots: Snapshots) -> None:
    asyncio.run(snapshots.look())


def test_a_file_that_is_gone_is_noticed_although_it_could_still_be_read_and_so_is_its_coming_back(
    snapshots: Snapshots, path: Path, tmp_path: Path
) -> None:
    before = snapshots.current
    path.rename(tmp_path / "elsewhere")
    look(snapshots)
    assert snapshots.problem == f"{path}: No such file or directory; put the file back, or restore a backup"
    assert snapshots.current is before
    (tmp_path / "elsewhere").rename(path)
    look(snapshots)
    assert snapshots.problem is None
    log = (tmp_path / "log").read_text()
    assert log.count("store cannot be read") == 1
    assert log.count("store can be read again") == 1


def test_another_file_in_its_place_is_not_taken_for_it(snapshots: Snapshots, path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "copy")
    os.replace(tmp_path / "copy", path)  # what a careless restore does
    look(snapshots)
    assert snapshots.problem == f"{path}: another file has taken its place; restart the daemon to use it"


def test_working_sets_are_used_for_the_set_time_and_no_longer(
    snapshots: Snapshots, path: Path, clocks: Clocks, tmp_path: Path
) -> None:
    path.rename(tmp_path / "elsewhere")
    clocks.since_boot += PATIENCE - 1
    look(snapshots)
    assert not snapshots.outdated
    clocks.since_boot += 2
    look(snapshots)
    assert snapshots.outdated
    (tmp_path / "elsewhere").rename(path)
    look(snapshots)
    assert not snapshots.outdated


@pytest.mark.parametrize("jump", [timedelta(days=-3650), timedelta(days=3650)])
def test_a_wall_clock_that_jumps_neither_ends_that_time_nor_makes_it_longer(
    snapshots: Snapshots, path: Path, clocks: Clocks, tmp_path: Path, jump: timedelta
) -> None:
    path.rename(tmp_path / "elsewhere")
    clocks.wall += jump
    clocks.since_boot += PATIENCE / 2
    look(snapshots)
    assert snapshots.age == PATIENCE / 2
    assert not snapshots.outdated
    clocks.since_boot += PATIENCE
    assert snapshots.outdated


def test_the_time_from_a_change_to_its_taking_effect_is_told_and_is_never_negative(
    snapshots: Snapshots, settings: Settings, clocks: Clocks
) -> None:
    told: list[float] = []
    snapshots.replaced = told.append
    for defect, made, acted in (("expired", 10, 12), ("self_signed", 30, 20)):
        with Installation.open(settings, NOW) as installation:
            error_settings.set_action(installation, "default", defect, "allow", NOW + timedelta(seconds=made))
        clocks.wall = NOW + timedelta(seconds=acted)
        look(snapshots)
    assert told == [2.0, 0.0]
    look(snapshots)
    assert len(told) == 2


def test_a_ca_that_was_replaced_and_is_back_between_two_looks_is_another_activation(
    snapshots: Snapshots, settings: Settings
) -> None:
    before = snapshots.current["default"]
    with Installation.open(settings, NOW) as inst:
        error_settings.set_action(inst, "default", "expired", "allow", NOW)
        look(snapshots)
        assert snapshots.current["default"].activation == before.activation
        upload = signing_cas.Upload((ISSUING.chain_pem(with_root=True),), ISSUING.key_pem())
        signing_cas.import_(inst, "default", "other", upload, NOW, activated=True)
        signing_cas.activate(inst, "default", "built-in", NOW)
    look(snapshots)
    after = snapshots.current["default"]
    assert after.signing_ca == before.signing_ca
    assert after.activation > before.activation


def test_a_working_set_tells_when_its_cas_end_and_of_a_signing_ca_the_first_of_its_chain(
    snapshots: Snapshots, settings: Settings
) -> None:
    root = Authority.root("Their Root", not_after=PKI_NOW + 9 * DAY)
    issuing = root.intermediate("Their Issuing", not_after=PKI_NOW + 90 * DAY)
    below = Authority.root("Company Root", not_after=PKI_NOW + 99 * DAY)
    with Installation.open(settings, PKI_NOW) as inst:
        upload = Upload((issuing.chain_pem(with_root=True),), issuing.key_pem())
        signing_cas.import_(inst, "default", "theirs", upload, PKI_NOW, activated=True)
        intermediate = below.intermediate("Company Issuing", not_after=PKI_NOW + 5 * DAY)
        company = trusted_cas.Upload("company", intermediate.pem() + below.pem())
        trusted_cas.add(inst, "default", [company], PKI_NOW)
    look(snapshots)
    found = snapshots.current["default"]
    assert found.signing_ca_name == "theirs"
    assert found.signing_ca_validity == Validity.of([root.certificate])
    assert found.signing_ca_end == (PKI_NOW + 9 * DAY).timestamp()
    assert found.trusted_validity == (("company", Validity.of([below.certificate])),)


def test_who_has_heard_of_a_change_need_not_wait_for_the_next_look(
    snapshots: Snapshots, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.snapshot.POLL_SECONDS", 3600.0)
    with Installation.open(settings, NOW) as installation:
        error_settings.set_action(installation, "default", "expired", "allow", NOW)

    async def scenario() -> None:
        taken = asyncio.Event()
        snapshots.replaced = lambda _seconds: taken.set()
        following = asyncio.get_running_loop().create_task(snapshots.follow())
        snapshots.hurry()
        async with asyncio.timeout(30):
            await taken.wait()
        following.cancel()
        await asyncio.wait([following])

    asyncio.run(scenario())


def test_exceptions_for_hosts_are_of_the_working_set_of_their_tenant_and_end_by_themselves(
    snapshots: Snapshots, settings: Settings
) -> None:
    wanted = host_exceptions.Wanted("*.a.example", "untrusted", "allow", "because", expires="2026-11-26")
    with Installation.open(settings, NOW) as inst:
        made = host_exceptions.add(inst, "default", wanted, NOW)
    look(snapshots)
    errors = snapshots.current["default"].errors
    verdict = Verdict.of([Finding(Defect.SELF_SIGNED, "", "")], [Authority.root("Any").certificate])
    host, end = parse_host("www.a.example"), datetime(2026, 11, 26, 23, 59, 59, tzinfo=UTC)
    decisions = [errors.decide(verdict, host, moment) for moment in (end - timedelta(seconds=1), end)]
    assert [decision.action for decision in decisions] == [Action.ALLOW, Action.BLOCK]
    assert decisions[0].by == [f"exception {made.id}"]
    exception = decisions[0].reasons[0].exception
    assert exception is not None
    assert (exception.reason, exception.expires_at) == ("because", end)


def test_a_change_of_another_tenants_leaves_a_working_set_with_exceptions_in_place(
    snapshots: Snapshots, settings: Settings
) -> None:
    wanted = host_exceptions.Wanted("a.example", "expired", "allow", "because", fingerprint="ab" * 32)
    with Installation.open(settings, NOW) as inst:
        tenants.create(inst, "acme", NOW)
        host_exceptions.add(inst, "default", wanted, NOW)
        look(snapshots)
        before = snapshots.current["default"]
        host_exceptions.add(inst, "acme", wanted, NOW)
        look(snapshots)
        assert snapshots.current["default"] is before
        host_exceptions.remove(inst, "default", "1", NOW)
        look(snapshots)
    assert snapshots.current["default"] is not before
    assert snapshots.current["default"].errors.exceptions.every == ()


@pytest.mark.parametrize("damage", ["pattern = 'a b'", "action = 'forgive'"])
def test_an_exception_that_cannot_be_understood_is_not_guessed_at(
    snapshots: Snapshots, settings: Settings, tmp_path: Path, damage: str
) -> None:
    with Installation.open(settings, NOW) as inst:
        host_exceptions.add(inst, "default", host_exceptions.Wanted("a.example", "expired", "allow", "because"), NOW)
        with inst.changing("default") as (connection, _):
            connection.exec_driver_sql(f"UPDATE host_exceptions SET {damage}")  # noqa: S608 - the test's own words
    look(snapshots)
    assert "default" not in snapshots.current
    assert "working set cannot be read" in (tmp_path / "log").read_text()


def test_a_tenants_bypass_rules_are_in_its_working_set_with_their_ends(
    snapshots: Snapshots, settings: Settings
) -> None:
    assert snapshots.current["default"].bypass.ends == {}
    end = NOW + timedelta(days=1)
    with Installation.open(settings, NOW) as inst:
        bypass_rules.add(inst, "default", [".a.example"], NOW, expires_at=end)
        bypass_rules.add(inst, "default", ["10.0.0.0/8"], NOW)
        look(snapshots)
        assert snapshots.current["default"].bypass.ends == {".a.example": end, "10.0.0.0/8": None}
        bypass_rules.remove(inst, "default", [".a.example"], NOW)
    look(snapshots)
    assert snapshots.current["default"].bypass.ends == {"10.0.0.0/8": None}
