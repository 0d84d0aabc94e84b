"""Workers that replace others count in the same table where it fits; a table that nobody uses any more is let go of."""

from __future__ import annotations

import os
from typing import Any

import pytest

from config.settings import Settings
from proxy.ledger import Ledger
from proxy.ledgers import ROWS_PER_WORKER, fitting, handed_on
from proxy.seats import columns

ONE = {"name": "one", "bind": "127.0.0.1:0", "tenant": "default"}


def settings(workers: int = 2, **listener: Any) -> Settings:
    return Settings.model_validate({"workers": workers, "listeners": [ONE | listener]})


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_the_table_stays_where_listeners_and_tenants_do_and_is_new_where_they_change() -> None:
    ledger = fitting(None, settings())
    assert ledger.rows == 2 * ROWS_PER_WORKER
    assert fitting(ledger, settings(workers=3)) is ledger
    for changed in (settings(name="two"), settings(tenant="other")):
        other = fitting(ledger, changed)
        assert other is not ledger
        assert other.columns == columns(changed.listeners)
        other.close()
    ledger.close()


def test_it_is_new_where_those_that_drain_leave_no_rows_for_all() -> None:
    ledger = fitting(None, settings())
    rows = [ledger.take() for _ in range(6)]
    assert fitting(ledger, settings()) is ledger
    rows.append(ledger.take())
    other = fitting(ledger, settings())
    assert other is not ledger
    other.close()
    ledger.close()


def test_one_that_is_finished_goes_with_its_last_worker() -> None:
    ledger = fitting(None, settings())
    fd, rows = ledger.fd, [ledger.take(), ledger.take()]
    ledger.finish()
    ledger.free(rows[0])
    assert is_open(fd)
    ledger.free(rows[1])
    assert not is_open(fd)


def test_the_next_program_counts_on_with_the_rows_that_are_taken() -> None:
    before = fitting(None, settings())
    row = before.take()
    before.cells[row * before.width] = 5
    after = handed_on(os.dup(before.fd), settings(), [row])
    assert after is not None
    assert (after.total(0), after.taken) == (5, 1)
    assert not os.get_inheritable(after.fd)
    assert after.take() != row
    after.free(row)
    assert before.total(0) == 0
    after.close()
    before.close()


@pytest.mark.parametrize("rows", [[8], [-1], [0, 0]])
def test_rows_that_cannot_be_make_it_none(rows: list[int]) -> None:
    before = fitting(None, settings())
    fd = os.dup(before.fd)
    assert handed_on(fd, settings(), rows) is None
    assert not is_open(fd)
    before.close()


def test_what_is_no_table_or_one_of_another_form_is_none_and_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert handed_on(None, settings(), []) is None
    gone = os.memfd_create("test")
    os.close(gone)
    assert handed_on(gone, settings(), []) is None
    for made in (os.memfd_create("test"), os.pipe()[0], fitting(None, settings(name="two")).fd):
        assert handed_on(made, settings(), []) is None
        assert not is_open(made)
    before = fitting(None, settings())
    monkeypatch.setattr("proxy.ledger.FORM", 99)
    with pytest.raises(ValueError, match="of another form"):
        Ledger(before.fd, before.columns)
    before.close()
