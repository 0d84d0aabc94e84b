"""Numbers: connections that say nothing, that come and go, or that take every descriptor."""

from __future__ import annotations

import time

from bench.abuse.aim import GONE, Aim, Report, clock, many, nothing_left, reset

CONNECTS = 100_000


def silent_connects(aim: Aim) -> Report:
    """100,000 connections that are opened and reset without a word, as many as time allows."""
    done = refused = 0
    more = clock(aim.seconds)
    while done < CONNECTS and more():
        try:
            reset(aim.tcp())
            done += 1
        except GONE:
            refused += 1
    report = Report(f"{done} connections, {refused} refused")
    if done < CONNECTS:
        report.notes.append(f"{aim.seconds:.0f} s were over before {CONNECTS}")
    return report


def exhausted(aim: Aim) -> Report:
    """More silent connections than the daemon has descriptors for, held open."""
    more = clock(aim.seconds)
    wanted = min(1000, aim.descriptors - 100)
    refused = 0
    with many() as held:
        for _ in range(wanted):
            try:
                held.append(aim.tcp())
            except GONE:
                refused += 1
            if not more():
                break
        opened = len(held)
        while more():
            time.sleep(0.5)
        closed = sum(nothing_left(each) for each in held)
    return Report(f"{opened} connections held, {refused} refused; the proxy closed {closed} of them")
