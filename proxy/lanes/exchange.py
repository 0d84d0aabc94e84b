"""What a tap is, and what it tells: one :class:`Exchange` for each request with its response.

The kinds of tap are beside it, one file each; :func:`proxy.lanes.tap.make_tap` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from proxy.lanes.misdirected import Addressee

MAX_PATH: Final = 1024
MAX_HOST: Final = 261  # a name of 255 characters with a port
MAX_METHOD: Final = 32


@dataclass(slots=True)
class Exchange:
    """A request and its response, for the log.

    ``protocol`` is "HTTP/1.1" (1.0 as well), "HTTP/2", "WebSocket" or "bytes". ``path`` has no query string, since
    queries carry secrets and personal data, and may be empty (:mod:`proxy.disclosure`). Sizes are bytes of body on the
    wire: after chunked framing and padding are taken off, before content codings are. Times are those of the tap's
    clock, in seconds; ``first_byte`` and ``status`` are 0 where no final response began. ``outcome``: "complete";
    "upgraded" (bytes of another protocol went both ways); "reset" (an endpoint gave the stream up); "cut" (the
    connection ended in the middle).
    """

    protocol: str
    method: str
    host: str
    path: str
    status: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    started: float = 0.0
    first_byte: float = 0.0
    ended: float = 0.0
    outcome: str = "complete"
    more: dict[str, Any] | None = None
    """What else the tenant's settings let be told: ``query``, ``request_headers``, ``response_headers``."""


class Unparsed(Exception):  # noqa: N818 - it is not the tap's error, but what became of the stream
    """The stream cannot be followed. The message begins with whose bytes they were: "client: " or "server: "."""


class OverLimit(Unparsed):
    """A limit is exceeded in a way that ends the connection, whatever the operator lets pass.

    ``kind`` names the limit for the log and for counting, ``client`` says whose doing it is. ``calm``: the offender is
    told in HTTP/2's own words (GOAWAY with ENHANCE_YOUR_CALM, RFC 9113 section 7). Then ``size`` and ``rest`` are as of
    :class:`TurnedAway`, the frame that was one too many being the first in ``rest``; ``passes`` is what came before.
    """

    def __init__(self, who: str, kind: str, what: str, *, calm: bool = False) -> None:
        super().__init__(f"{who}: {what}")
        self.kind = kind
        self.client = who == "client"
        self.calm = calm
        self.size = 0
        self.rest = b""
        self.passes = b""


class TurnedAway(Exception):  # noqa: N818 - as above
    """A request that is answered here and not passed on, or a response that another takes the place of.

    ``accept`` is the request's Accept field, ``head_only`` says that it is a HEAD. ``stream`` and ``ended`` are of
    HTTP/2: its stream, and whether nothing follows its header block. ``size`` counts the head's bytes on the wire,
    ``rest`` is what came behind it in the same piece.
    """

    def __init__(self, accept: Iterable[bytes] = (), *, head_only: bool = False) -> None:
        super().__init__()
        self.accept = b", ".join(accept).decode("latin-1")
        self.head_only = head_only
        self.stream = 0
        self.ended = True
        self.size = 0
        self.rest = b""


class Misdirected(TurnedAway):
    """A request for another host than the connection's, or for none.

    ``host`` is what it names, readable; ``malformed`` says why it is answered with 400 and not with 421, and is empty
    else.
    """

    def __init__(self, host: bytes, malformed: str, accept: Iterable[bytes], *, head_only: bool) -> None:
        super().__init__(accept, head_only=head_only)
        self.host = readable(host.lower(), MAX_HOST)
        self.malformed = malformed


class TooLarge(TurnedAway):
    """A head is beyond ``limit``, which is that of ``detail``: the name of the setting.

    ``decoded``: it was read as far as is needed to know what ``accept`` and ``head_only`` are.
    """

    def __init__(
        self, who: str, detail: str, limit: int, accept: Iterable[bytes] = (), *, head_only: bool = False
    ) -> None:
        super().__init__(accept, head_only=head_only)
        self.request = who == "client"
        self.decoded = True
        self.detail = detail
        self.limit = limit


@dataclass(slots=True)
class Detour:
    """What is to be done in place of passing a piece on as it came.

    ``done``: all is said, and the connection is to end.
    """

    to_server: bytes = b""
    to_client: bytes = b""
    refused: TurnedAway | None = None
    done: bool = False


class Tap:
    """Reads along with the bytes that pass, and changes none.

    ``from_client`` and ``from_server`` get the bytes in the order in which they came, in pieces of any size, and say
    what is to be passed on; both raise :class:`Unparsed`, after which only ``closed`` may be called. ``done`` gets each
    exchange when it has ended, and nothing touches it afterwards.

    What may be the beginning of a head is not passed on before it is whole and within its limits, and a request's not
    before it is known for which host it is, where there is an ``addressee``: ``kept`` has these bytes of the client,
    ``kept_back`` those of the server.
    """

    __slots__ = ("_clock", "_done", "addressee", "host", "kept", "kept_back", "protocol")

    def __init__(
        self,
        host: str,
        done: Callable[[Exchange], None],
        clock: Callable[[], float],
        protocol: str,
        addressee: Addressee | None = None,
    ) -> None:
        self.host = host
        self.protocol = protocol
        self.addressee = addressee
        self.kept = bytearray()
        self.kept_back: bytes | bytearray = b""
        self._done = done
        self._clock = clock

    @property
    def busy(self) -> bool:
        """An exchange is in progress, so that ending the connection now would cut it."""
        raise NotImplementedError

    @property
    def head(self) -> object | None:
        """What the client has sent of a request's head that is not whole: the same object until it is."""
        return None

    def from_client(self, data: bytes) -> Detour | None:
        """Bytes that the client sent; None: they pass on as they are. Raises Unparsed."""
        raise NotImplementedError

    def from_server(self, data: bytes) -> Detour | None:
        """Bytes that the server sent; None: they pass on as they are. Raises Unparsed."""
        raise NotImplementedError

    def client_ended(self) -> None:
        """The client will send no more; it may still read."""

    def server_ended(self) -> None:
        """The server will send no more: a response that ends with the connection is complete, others are cut."""

    def closed(self) -> None:
        """The connection is gone: tell of what is still open. Calling it again tells nothing more."""
        raise NotImplementedError

    def release(self) -> bytes:
        """The server ends: what was kept back of it, which is all that the client will get."""
        kept, self.kept_back = bytes(self.kept_back), b""
        return kept

    def _keep(self, unfinished: int) -> bytes:
        """Of ``kept``, take what may pass: all but the last ``unfinished`` bytes."""
        stop = len(self.kept) - unfinished
        passes = bytes(self.kept[:stop])
        del self.kept[:stop]
        return passes

    def _keep_back(self, data: bytes, unfinished: int) -> Detour:
        """The same of the server's bytes, to which ``data`` is added."""
        kept = self.kept_back + data if self.kept_back else data
        stop = len(kept) - unfinished
        self.kept_back = bytes(kept[stop:])
        return Detour(to_client=bytes(kept[:stop]))

    def _turned_away(self, request: TurnedAway) -> Detour:
        """Let pass what is in ``kept`` before the request, and nothing else."""
        before = self._keep(request.size + len(request.rest))
        self.kept.clear()
        return Detour(to_server=before, refused=request)

    def _taken_back(self, data: bytes, response: TurnedAway) -> Detour:
        """The same for a response."""
        detour = self._keep_back(data, response.size + len(response.rest))
        self.kept_back = b""
        detour.refused = response
        return detour


def readable(data: bytes, limit: int) -> str:
    """``data`` for a log line: what is not visible ASCII is percent-escaped, at most ``limit`` characters."""
    text = data[:limit].decode("latin-1")
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return "".join(c if "!" <= c <= "~" else f"%{ord(c):02X}" for c in text)[:limit]


def path_of(target: bytes) -> str:
    """A request target's path for the log, without query and fragment (RFC 9112 section 3.2)."""
    return readable(target.partition(b"?")[0].partition(b"#")[0], MAX_PATH)
