"""What the proofs under load make of what they saw: the figures are theirs, the judgement must be right."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench import faults, table
from bench.abuse.aim import nothing_left, reset
from bench.abuse.attacker import ATTACKS
from bench.abuse.slow import GRACE, limit_of
from bench.client import Trouble
from bench.faults import CONNECTION_LOST, DRAINED, NO_SERVER, NOTHING, Fault, blamed
from bench.flatness import Sample, descriptor_rise, memory_rise
from bench.scenarios import BY_NAME, Crowded, Measured
from tests.harness.processes import wait_for


def samples(rate: float, count: int = 120) -> list[Sample]:
    """Memory that grows from the middle on, KiB a second."""
    return [Sample(float(at), int(300_000 + max(0, at - count / 2) * rate), 200) for at in range(count)]


def test_memory_that_stays_is_flat_and_memory_that_leaks_is_not() -> None:
    assert memory_rise(samples(0), long=True).flat
    leak = memory_rise(samples(1000), long=True)
    assert not leak.flat
    assert leak.rise == pytest.approx(59_000, rel=0.05)


def test_a_short_run_may_still_be_warming_up() -> None:
    assert memory_rise(samples(1000), long=False).flat
    assert not memory_rise(samples(3000), long=False).flat


def test_what_grows_before_the_middle_alone_is_flat() -> None:
    early = [Sample(float(at), min(at, 60) * 5000, 10) for at in range(121)]
    assert memory_rise(early, long=True).flat


def test_descriptors_that_pile_up_are_seen() -> None:
    piling = [Sample(float(at), 1, 100 + 3 * at) for at in range(120)]
    assert not descriptor_rise(piling).flat
    assert descriptor_rise(samples(0)).flat


BEGIN, END = table.BEGIN.format("bench"), table.END.format("bench")
KILLED = Fault("a worker killed", 10.0, 12.0, CONNECTION_LOST)


@pytest.mark.parametrize(
    ("trouble", "explained"),
    [
        (Trouble(9.5, 10.1, "response", "h", "closed"), True),
        (Trouble(11.9, 40.0, "handshake", "h", "closed"), True),
        (Trouble(3.0, 20.0, "stale", "h", "closed"), True),
        (Trouble(8.0, 9.9, "response", "h", "closed"), False),
        (Trouble(12.1, 13.0, "response", "h", "closed"), False),
        (Trouble(10.5, 10.6, "status", "h", "HTTP/1.1 502"), False),
        (Trouble(10.5, 10.6, "wrong", "h", "got another"), False),
        (Trouble(10.5, 10.6, "tcp", "h", "Connection refused"), False),
    ],
)
def test_a_fault_explains_errors_of_its_kind_in_its_time_alone(trouble: Trouble, explained: bool) -> None:
    assert (blamed(trouble, [KILLED]) is not None) == explained


def test_no_fault_explains_a_wrong_answer() -> None:
    wrong = Trouble(10.5, 10.6, "wrong", "h", "502 closed reset")
    everything = [Fault("x", 0.0, 99.0, each) for each in (CONNECTION_LOST, faults.NO_LEAVES, NO_SERVER, DRAINED)]
    assert blamed(wrong, everything) is None


@pytest.mark.parametrize("kind", ["the configuration reloaded", "another CA activated"])
def test_a_reload_and_an_activation_explain_nothing_but_the_end_of_what_rested(kind: str) -> None:
    (explains,) = [explains for name, _, explains, _ in faults.LASTING if name == kind]
    during = [Fault(kind, 0.0, 99.0, explains)]
    assert blamed(Trouble(10.5, 10.6, "stale", "h", "close_notify"), during) is not None
    for stage in ("connect", "handshake", "request", "response", "reset", "status"):
        assert blamed(Trouble(10.5, 10.6, stage, "h", "closed"), during) is None


def test_a_trusted_ca_a_setting_and_an_origin_that_is_slow_explain_nothing() -> None:
    silent = [kind for kind, _, explains, _ in faults.LASTING if explains is NOTHING]
    assert silent == ["a trusted CA added and removed", "the origin slow", "an error set and unset"]
    assert blamed(Trouble(10.5, 10.6, "stale", "h", "closed"), [Fault("ca", 0.0, 99.0, NOTHING)]) is None


def test_a_line_of_the_client_is_an_error_or_nothing() -> None:
    line = "E 1.5000 2.2500 status h1.fast.test HTTP/1.1 502 proxy-status: sallyport\n"
    assert Trouble.parse(line) == Trouble(1.5, 2.25, "status", "h1.fast.test", "HTTP/1.1 502 proxy-status: sallyport")
    assert Trouble.parse("something else") is None


def test_the_table_is_written_between_its_markers_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    table.write("| new |", page)
    assert page.read_text() == f"before\n{BEGIN}\n\n| new |\n\n{END}\nafter\n"
    page.write_text("no markers\n")
    with pytest.raises(ValueError, match="expected the lines"):
        table.write("| new |", page)


def test_the_page_has_the_markers() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_costs_are_medians_beside_ours() -> None:
    rounds = {
        "sallyport": {"warm": [Measured(2.0), Measured(1.0), Measured(9.0)]},
        "squid": {"warm": [Measured(5.0)]},
    }
    text = table.costs(rounds, {"sallyport": "S", "squid": "Q"}, [BY_NAME["warm"]], "sallyport")
    assert "| S | 2.00 |" in text
    assert "| Q | 5.00 (2.50x) |" in text


def test_crowds_are_compared_with_few() -> None:
    text = table.crowds([Crowded(10, 0.2, 3.0, 60.0, 0), Crowded(1000, 0.3, 3.3, 61.0, 0)])
    assert "| 1000 | 0.300 (1.50x) | 3.30 (1.10x) |" in text


def test_attacks_end_and_slow_ones_last_until_their_clients_have_to_be_gone() -> None:
    assert all(attack.seconds <= 90 for attack in ATTACKS.values())
    for stage in ("connect", "tls", "request", "read"):
        assert ATTACKS[f"slow-{stage}"].seconds - 2 > limit_of(stage) + GRACE + 5, stage


@pytest.mark.parametrize("how", ["reset", "end"])
def test_a_slow_reader_is_gone_when_the_connection_is_whatever_it_has_not_read(how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        client = socket.create_connection(listening.getsockname())
        server, _ = listening.accept()
        with client, server:
            server.sendall(b"x" * 1000)
            assert not nothing_left(client)
            if how == "reset":
                reset(server)
            else:
                server.shutdown(socket.SHUT_WR)
            wait_for("the end to arrive", lambda: nothing_left(client))
            assert client.recv(1) == b"x"
