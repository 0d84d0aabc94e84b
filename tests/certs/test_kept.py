import pytest

from certs.kept import kept


class Thing:
    """Equal to every other, as certificates with the same octets are, and without a hash, as keys are."""

    __hash__ = None  # type: ignore[assignment]  # that is the point of it

    def __eq__(self, other: object) -> bool:
        return True


def test_an_answer_is_remembered_for_the_very_object() -> None:
    asked = []

    @kept(4)
    def answer(thing: Thing) -> int:
        asked.append(thing)
        return len(asked)

    one, other = Thing(), Thing()
    assert [answer(one), answer(other), answer(one), answer(other)] == [1, 2, 1, 2]


def test_no_more_objects_are_held_than_said() -> None:
    asked = []

    @kept(2)
    def answer(thing: Thing) -> int:
        asked.append(thing)
        return len(asked)

    things = [Thing() for _ in range(3)]
    assert [answer(thing) for thing in things] == [1, 2, 3]
    assert answer(things[2]) == 3
    assert answer(things[0]) == 4


def test_an_object_is_held_so_that_no_other_takes_its_place() -> None:
    @kept(1000)
    def answer(thing: list[int]) -> int:
        return thing[0]

    assert [answer([number]) for number in range(500)] == list(range(500))


def test_what_is_raised_is_not_remembered() -> None:
    asked = []

    @kept(4)
    def answer(thing: Thing) -> int:
        asked.append(thing)
        if len(asked) == 1:
            raise ValueError("not yet")
        return 7

    thing = Thing()
    with pytest.raises(ValueError, match="not yet"):
        answer(thing)
    assert answer(thing) == 7
