"""What ``sallyport top`` makes of what workers say."""

from __future__ import annotations

from typing import Any

from cli.top_figures import Look, figures
from cli.top_screen import age, lines, size


def health(pid: int, number: int, **counts: int) -> dict[str, Any]:
    return {
        "pid": pid, "number": number, "draining": False, "sessions": 1, "memory": 64 << 20, "loop_lag": 0.002,
        "store": {"problem": None, "age": 0.1},
        "counts": [
            ["connections", "default", "explicit", "fast", counts.get("connections", 0)],
            ["verdicts", "default", "expired", "block", counts.get("expired", 0)],
            ["bytes", "to_client", counts.get("down", 0)],
        ],
    }  # fmt: skip


def live(number: int, *hosts: str) -> dict[str, Any]:
    connections = [
        {
            "id": f"{number}{place}", "tenant": "default", "client": "192.0.2.1", "host": host, "state": "open",
            "lane": "fast", "age": 5.0, "to_client": 100 * number + place, "to_server": 1, "defects": [],
            "action": None,
        }
        for place, host in enumerate(hosts)
    ]  # fmt: skip
    return {"number": number, "hosts": dict.fromkeys(hosts, 1), "connections": connections}


def test_rates_are_what_has_grown_in_the_time_between_over_all_workers() -> None:
    before = Look(10.0, [health(1, 1, connections=5, down=1000), health(2, 2, connections=7)])
    now = Look(12.0, [health(1, 1, connections=9, down=5000), health(2, 2, connections=7)])
    rates = figures(before, now, 10).rates
    assert (rates["connections"], rates["bytes_to_client"], rates["requests"]) == (2.0, 2000.0, 0.0)


def test_a_worker_that_came_meanwhile_has_no_rate_but_its_counts_are_there() -> None:
    before = Look(10.0, [health(1, 1, connections=5)])
    now = Look(11.0, [health(3, 1, connections=100, expired=4)])
    found = figures(before, now, 10)
    assert found.rates["connections"] == 0
    assert found.verdicts == {"expired": 4}


def test_the_busiest_connections_of_all_workers_come_first_and_hosts_are_added_up() -> None:
    look = Look(1.0, [health(1, 1), health(2, 2)], [live(1, "a.example", "b.example"), live(2, "a.example")])
    found = figures(look, look, 2)
    assert [one["id"] for one in found.connections] == ["20", "11"]
    assert found.hosts == {"a.example": 2, "b.example": 1}
    assert found.sessions == 2


def test_a_screen_fits_the_terminal_and_carries_no_control_character() -> None:
    look = Look(1.0, [health(1, 1)], [live(1, *["evil\x1b[2J.example"] * 50)])
    shown = lines(figures(look, look, 100), 60, 20)
    assert len(shown) == 20
    assert all(len(line) <= 60 and line.isprintable() for line in shown)


def test_sizes_and_ages_are_for_people() -> None:
    assert [size(0), size(1023), size(1536), size(5 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [age(5), age(300), age(8000)] == ["5 s", "5 min", "2 h"]
