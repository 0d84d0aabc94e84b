"""Places for large bodies: how many, who waits, and who is next."""

from __future__ import annotations

from proxy.fetch_room import Room


class Body:
    def __init__(self) -> None:
        self.reads = True

    def wait(self) -> None:
        self.reads = False

    def go_on(self) -> None:
        assert not self.reads
        self.reads = True


def entered(room: Room, *domains: str) -> list[Body]:
    bodies = []
    for domain in domains:
        bodies.append(Body())
        room.enter(bodies[-1], domain)
    return bodies


def test_two_are_read_at_once_of_two_domains_and_the_others_wait() -> None:
    assert [body.reads for body in entered(Room(), "a", "a", "b", "c")] == [True, False, True, False]


def test_who_came_first_is_next_but_not_beside_another_of_its_domain() -> None:
    room = Room()
    first, second, other, last = entered(room, "a", "a", "b", "c")
    room.leave(other)
    assert [body.reads for body in (second, last)] == [False, True]
    room.leave(first)
    assert second.reads


def test_who_gives_up_waiting_takes_no_place() -> None:
    room = Room()
    first, second, third = entered(room, "a", "a", "a")
    room.leave(second)
    room.leave(first)
    assert (second.reads, third.reads) == (False, True)
    room.leave(Body())
