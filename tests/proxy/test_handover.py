"""What one program hands to the next arrives whole, once, and from nobody else."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.handover import VARIABLE, HandedChild, Handover, pack, received
from proxy.start_error import StartError

HANDOVER = Handover(
    pid=os.getpid(),
    began=12.5,
    settings="{}",
    wanted='{"workers":2}',
    said=("state_dir: stays",),
    roots={"/state/certs/default-root.pem": "PEM"},
    lock=3,
    issuing=4,
    sockets=(5, 6),
    children=(
        HandedChild("issuer", 10, 7, True, None),
        HandedChild("worker 1", None, None, False, None),
        HandedChild("worker 1", 11, 8, True, 99.5, 3),
    ),
    ledger=9,
    relayed=(10, 11),
    monitoring=12,
    console=13,
)


def test_it_arrives_as_it_was_and_only_once() -> None:
    environ = {VARIABLE: str(pack(HANDOVER)), "HOME": "/"}
    assert received(environ) == HANDOVER
    assert environ == {"HOME": "/"}
    assert received(environ) is None
    assert sorted(HANDOVER.descriptors) == list(range(3, 14))


def test_another_process_cannot_use_it() -> None:
    fd = pack(dataclasses.replace(HANDOVER, pid=os.getpid() + 1))
    with pytest.raises(StartError, match="is for the daemon's own use"):
        received({VARIABLE: str(fd)})


@given(
    st.binary(max_size=100) | st.dictionaries(st.text(max_size=5), st.integers()).map(lambda d: json.dumps(d).encode())
)
def test_anything_else_is_refused(content: bytes) -> None:
    fd = os.memfd_create("test", 0)
    os.write(fd, content)
    with pytest.raises(StartError):
        received({VARIABLE: str(fd)})


@pytest.mark.parametrize("text", ["", "x", "-1", "100000"])
def test_a_number_that_is_no_descriptor_is_refused(text: str) -> None:
    with pytest.raises(StartError):
        received({VARIABLE: text})
