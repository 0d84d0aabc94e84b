"""The table in which all workers count: sums over rows, rows that come and go, and whom an address stands for."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from proxy.ledger import CELLS, Ledger, LedgerFullError, client_key

COLUMNS = (("listener", "a"), ("tenant", "default"))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger.create(3, COLUMNS)
    yield made
    made.close()


def test_a_second_process_reads_what_the_first_has_counted(ledger: Ledger) -> None:
    other = Ledger(os.dup(ledger.fd), COLUMNS)
    ledger.cells[ledger.take() * ledger.width] += 5
    other.cells[ledger.take() * ledger.width] += 2
    assert (ledger.total(0), other.total(0)) == (7, 7)
    assert other.key == ledger.key
    assert other.column == {("all", ""): 0, ("listener", "a"): 2, ("tenant", "default"): 3}
    other.close()


def test_a_row_that_is_freed_counts_nothing_and_leaves_the_others_alone(ledger: Ledger) -> None:
    rows = [ledger.take() for _ in range(3)]
    first, second = ledger.cells_of(client_key("192.0.2.1"))
    for row in rows:
        for cell in (0, 1, 2, 3, first, second):
            ledger.cells[row * ledger.width + cell] = row + 1
    ledger.free(rows[1])
    assert [ledger.total(cell) for cell in (0, 1, 2, 3, first, second)] == [4, 4, 4, 4, 4, 4]
    assert ledger.take() == rows[1]


def test_when_every_row_is_taken_the_next_worker_has_to_wait(ledger: Ledger) -> None:
    rows = [ledger.take() for _ in range(3)]
    assert len(set(rows)) == 3
    with pytest.raises(LedgerFullError, match="too many workers are still draining"):
        ledger.take()


def test_no_process_can_shorten_the_table_under_the_others(ledger: Ledger) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(ledger.fd, 0)
    with pytest.raises(PermissionError):
        os.ftruncate(ledger.fd, 1 << 30)


def test_rows_share_no_page(ledger: Ledger) -> None:
    assert ledger.width * 4 % os.sysconf("SC_PAGE_SIZE") == 0
    assert ledger.rows == 3
    assert len(ledger.cells) == 3 * ledger.width


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%lo", "fe80::2", True),
        ("::1", "192.0.2.1", False),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_64_of_ipv6(one: str, other: str, same: bool) -> None:
    assert (client_key(one) == client_key(other)) is same


def test_which_cells_a_client_counts_in_depends_on_a_key_that_is_new_each_time(ledger: Ledger) -> None:
    another = Ledger.create(1, COLUMNS)
    clients = [client_key(f"192.0.2.{number}") for number in range(50)]
    assert [ledger.cells_of(client) for client in clients] == [ledger.cells_of(client) for client in clients]
    assert [ledger.cells_of(client) for client in clients] != [another.cells_of(client) for client in clients]
    for first, second in map(ledger.cells_of, clients):
        assert 3 <= first < 3 + CELLS <= second < 3 + 2 * CELLS
    another.close()
