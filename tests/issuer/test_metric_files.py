"""Counts of several processes in one folder: what is added up, what outlives a process, what a full disk does.

Each process of these tests is a real one: prometheus_client maps files, and a lock belongs to a process.
"""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from issuer import metric_files
from tests.harness.daemon import REPOSITORY

PROGRAM = """
import sys
from pathlib import Path
from issuer.metric_files import Measure, MetricFiles
files = MetricFiles(Path(sys.argv[1]), "worker")
counter = files.counter(Measure("things", "Things.", ("kind",)))
files.histogram(Measure("seconds", "Time.", (), (0.1, 1.0))).observe(0.5)
counter.labels("a").inc(int(sys.argv[2]))
print(files.place, flush=True)
sys.stdin.read()
"""


def counting(folder: Path, count: int) -> subprocess.Popen[str]:
    """A process that has counted so many things, and lives until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(count)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process


def place_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def total(folder: Path, name: str = "sallyport_things_total") -> float | None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))
    return registry.get_sample_value(name, {"kind": "a"} if "things" in name else {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "metrics"
    metric_files.clear(made)
    return made


def test_what_processes_count_beside_each_other_is_added_up(folder: Path) -> None:
    first, second = counting(folder, 3), counting(folder, 4)
    assert {place_of(first), place_of(second)} == {"worker-0", "worker-1"}
    assert total(folder) == 7
    assert total(folder, "sallyport_seconds_count") == 2
    end(first)
    end(second)


def test_the_next_process_takes_the_place_of_one_that_was_killed_and_goes_on_counting_there(folder: Path) -> None:
    for killed in range(5):
        process = counting(folder, 2)
        assert place_of(process) == "worker-0"
        end(process)
        assert total(folder) == 2 * (killed + 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        "counter_worker-0.db",
        "histogram_worker-0.db",
        "worker-0.lock",
    ]


def test_only_the_user_of_the_daemon_can_read_the_files(folder: Path) -> None:
    process = counting(folder, 1)
    place_of(process)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    end(process)


def test_a_daemon_that_starts_begins_from_nothing(folder: Path) -> None:
    process = counting(folder, 1)
    place_of(process)
    end(process)
    metric_files.clear(folder)
    assert list(folder.iterdir()) == []
    assert total(folder) is None


def test_a_file_that_the_disk_has_no_room_for_is_an_error_and_leaves_nothing_behind(folder: Path) -> None:
    # A limit on the size of files stands for the full disk: posix_fallocate fails with both.
    process = subprocess.run(
        [
            sys.executable, "-c",
            "import resource, signal\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({metric_files.COUNTER_BYTES - 1},) * 2)\n" + PROGRAM,
            str(folder), "1",
        ],
        cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 1
    assert "OSError: [Errno 27]" in process.stderr
    assert [path.name for path in folder.iterdir()] == ["worker-0.lock"]
