"""What a process does to itself, as the kernel tells of it. Each in a process of its own: there is no way back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.issuer.rig import REPOSITORY


def told(code: str, *fields: str, before: str = "") -> dict[str, str]:
    """The fields of /proc/self/status after the code has run, and what it printed as ``said``."""
    script = (
        f"import os, resource\n{before}\nfrom issuer.hardening import *\nprint('said:', {code})\n"
        "print('core:', resource.getrlimit(resource.RLIMIT_CORE))\n"
        "print(open('/proc/self/status').read())"
    )
    output = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    lines = dict(line.split(":", 1) for line in output.stdout.splitlines() if ":" in line)
    return {name: lines[name].strip() for name in fields}


def test_a_child_gains_no_rights_dumps_no_core_and_makes_files_that_are_its_own() -> None:
    assert told("harden_child()", "NoNewPrivs", "Umask", "core") == {
        "NoNewPrivs": "1",
        "Umask": "0077",
        "core": "(0, 0)",
    }


def test_a_child_has_none_of_the_capabilities_that_bind_its_sockets() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has them to begin with")
    sets = ("CapInh", "CapPrm", "CapEff", "CapAmb")
    low_ports, admin, raw = 1 << 10, 1 << 12, 1 << 13
    before, after = told("1", *sets), told("harden_child()", *sets)
    assert int(before["CapEff"], 16) & (low_ports | admin | raw) == low_ports | admin | raw
    for name in sets:
        assert int(after[name], 16) == int(before[name], 16) & ~(low_ports | admin | raw)


def test_memory_is_locked_where_that_is_allowed() -> None:
    if os.geteuid() != 0:
        pytest.skip("locking without a limit takes root")
    locked = told("lock_memory()", "said", "VmLck", "VmRSS")
    assert locked["said"] == "None"
    assert int(locked["VmLck"].split()[0]) > 10_000


def test_within_a_limit_it_is_not_tried_and_the_reason_is_said() -> None:
    if os.geteuid() != 0:
        lower = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))"
    else:
        lower = "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536)); os.setgid(65534); os.setuid(65534)"
    # Imported first: what runs as somebody else may not be able to read the library's files.
    tried = told("lock_memory()", "said", "VmLck", before=f"import issuer.hardening\n{lower}")
    assert tried["said"] == "only 65536 bytes may be locked (RLIMIT_MEMLOCK); allow it with LimitMEMLOCK=infinity"
    assert tried["VmLck"] == "0 kB"


def test_short_work_ends_with_the_process_that_wanted_it() -> None:
    script = (
        "import os, signal, sys, time\nfrom issuer.hardening import end_with_parent\n"
        "reading, writing = os.pipe()\n"
        "if (pid := os.fork()) == 0:\n"
        "    end_with_parent(); os.write(writing, b'x'); time.sleep(60); os._exit(0)\n"
        "os.read(reading, 1); print(pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    begun = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=30)
    # The output is at its end only when the child, which has it too, has ended.
    assert int(begun.stdout) > 0
