"""When a worker sheds new connections, and when it takes them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.overload import LEAST, Overload, available, resident, share_of

GIB = 1 << 30


def test_late_turns_are_no_overload_until_they_go_on_for_three_seconds() -> None:
    overload = Overload(GIB, 0.25)
    for seconds, now in (
        (5.0, 5.0),
        (0.0, 5.1),
        (0.3, 6.0),
        (0.3, 7.0),
        (0.2, 8.0),
        (0.3, 8.4),
        (0.3, 10.0),
        (0.3, 11.0),
    ):
        overload.late(seconds, now)
        assert overload.shedding is None
    overload.late(0.3, 11.2)
    assert overload.shedding == "overload"


def test_two_turns_are_too_few_however_long_they_take() -> None:
    overload = Overload(GIB, 0.25)
    overload.late(4.0, 4.0)
    overload.late(4.0, 8.0)
    assert overload.shedding is None


def test_it_ends_when_the_loop_has_caught_up_for_three_turns() -> None:
    overload = Overload(GIB, 0.25)
    for now in (1.5, 3.0, 4.5):
        overload.late(1.4, now)
    for seconds in (0.2, 0.2, 0.2, 0.2, 0.01, 0.01, 0.2, 0.01, 0.01):
        overload.late(seconds, 5.0)
        assert overload.shedding == "overload"
    overload.late(0.01, 5.0)
    assert overload.shedding is None


def test_memory_is_shed_at_the_limit_until_it_is_a_tenth_below() -> None:
    overload = Overload(1000, 0.25)
    for memory, shedding, tight in (
        (940, None, False), (950, None, True), (999, None, True), (1000, "memory", True), (950, "memory", True),
        (900, "memory", False), (899, None, False), (999, None, True),
    ):  # fmt: skip
        overload.uses(memory)
        assert (overload.shedding, overload.tight) == (shedding, tight), memory


def test_each_worker_has_its_share_of_seven_tenths_and_never_too_little_to_run() -> None:
    assert share_of(10 * GIB, 2) == int(7 * GIB) // 2
    assert share_of(GIB, 64) == LEAST


def files(root: Path, **contents: str) -> None:
    for name, text in contents.items():
        path = root.joinpath(*name.split("__")[:-1], name.split("__")[-1].replace("_dot_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "limits", "expected"),
    [
        ("0::/\n", {}, 8 * GIB),
        ("0::/a/b\n", {"a__b__memory_dot_max": "max\n", "a__memory_dot_max": f"{2 * GIB}\n"}, 2 * GIB),
        ("0::/a\n", {"a__memory_dot_max": f"{64 * GIB}\n"}, 8 * GIB),
        ("0::/not/ours\n", {"memory_dot_max": f"{GIB}\n"}, GIB),
        (
            "5:cpu:/x\n4:memory:/a\n0::/\n",
            {"memory__a__memory_dot_limit_in_bytes": f"{3 * GIB}\n", "memory__memory_dot_limit_in_bytes": f"{1 << 62}"},
            3 * GIB,
        ),
    ],
)
def test_a_control_groups_limit_counts_where_it_is_less_than_the_machines_memory(
    tmp_path: Path, membership: str, limits: dict[str, str], expected: int
) -> None:
    files(tmp_path / "proc", meminfo=f"MemFree: 1 kB\nMemTotal: {8 * GIB // 1024} kB\n", self__cgroup=membership)
    files(tmp_path / "groups", **limits)
    assert available(tmp_path / "proc", tmp_path / "groups") == expected


def test_this_process_and_this_machine_can_be_measured() -> None:
    assert 1 << 20 < resident() < available()
