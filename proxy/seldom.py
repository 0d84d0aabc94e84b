"""Lines of the log that may not come as often as what they tell of: one a second for each, with how many there were."""

from __future__ import annotations

from collections.abc import Callable

SECONDS = 1.0


class Seldom:
    """Counts what happened, and says it: the first at once, what follows within a second together.

    ``say`` gets what happened, how often since it was last said, and the fields that came with the last.
    """

    def __init__(self, say: Callable[[str, int, dict[str, object]], None]) -> None:
        self._say = say
        self._counts: dict[str, tuple[float, int, dict[str, object]]] = {}
        """When each was last said, what has come since, and what came with the last of it."""

    def happened(self, what: str, now: float, /, **fields: object) -> None:
        """It happened once more. ``now`` in seconds."""
        said = self._counts.get(what)
        if said is None or now - said[0] >= SECONDS:
            self._say(what, 1 + (said[1] if said is not None else 0), fields)
            self._counts[what] = (now, 0, {})
        else:
            self._counts[what] = (said[0], said[1] + 1, fields)

    def flush(self, now: float) -> None:
        """Say what has gathered for a second; once a second is often enough."""
        for what, (when, count, fields) in tuple(self._counts.items()):
            if now - when < SECONDS:
                continue
            if count:
                self._say(what, count, fields)
                self._counts[what] = (now, 0, {})
            else:
                del self._counts[what]
