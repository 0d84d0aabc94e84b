"""Answers about objects that stay the same for many leaves, remembered by the object itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps


def kept[Subject, Answer](most: int) -> Callable[[Callable[[Subject], Answer]], Callable[[Subject], Answer]]:
    """Remember a function's answers for at most so many objects, which must never change.

    For certificates and keys: comparing the one kind hashes all its octets, and the other has no hash. The objects are
    held, so that no other can come to have the identity of one; all are let go when there are too many. What is raised
    is not remembered.
    """

    def decorate(function: Callable[[Subject], Answer]) -> Callable[[Subject], Answer]:
        answers: dict[int, tuple[Subject, Answer]] = {}

        @wraps(function)
        def remembered(subject: Subject) -> Answer:
            found = answers.get(id(subject))
            if found is None:
                found = subject, function(subject)
                if len(answers) >= most:
                    answers.clear()
                answers[id(subject)] = found
            return found[1]

        return remembered

    return decorate
