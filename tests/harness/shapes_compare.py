"""Is a page the same through a lane as directly? The two views that are compared, and what may differ.

In the fast lane nothing may: each end must receive the very bytes that the other has sent. In the inspection lane a
message is taken apart and put together again, and may differ in this and in nothing else:

- where chunks and TLS records begin and end, and chunk extensions (RFC 9112 section 7.1.1: they end at each hop);
- blanks around a field's value and around a reason phrase (RFC 9112 sections 4 and 5.1);
- a target in absolute form for the very host: it may reach the origin in origin form (RFC 9112 section 3.2.1);
- masks of WebSocket frames, where a message is fragmented or how compressed, and whether a control frame comes between
  its fragments or before them (RFC 6455 sections 5.3, 5.4 and 5.5);
- whether the end behind a message that tells its own end comes with close_notify;
- for an exchange that is cut: how much of it had passed, and whether it is FIN or RST that cuts it;
- 502 in place of a cut where not even the answer's head has come (RFC 9110 section 15.6.3).
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from tests.harness.shapes import HOST, Seen, Shape
from tests.harness.shapes_reader import Fields, Message

_REASON = re.compile(rb"^(HTTP/1\.[01] [0-9]{3}) +")
_ABSOLUTE = re.compile(rb"^([A-Z]+) https?://" + HOST.encode(), re.IGNORECASE)


@dataclass(frozen=True)
class View:
    """A message as HTTP understands it."""

    line: bytes
    fields: Fields
    body: bytes
    trailers: Fields
    whole: bool

    def __repr__(self) -> str:
        body = self.body if len(self.body) < 200 else f"{len(self.body)} bytes {hash(self.body):x}"
        return f"{self.line!r} {self.fields!r:.2000} body={body!r} trailers={self.trailers} whole={self.whole}"


def view(message: Message) -> View:
    """Take a message's framing off."""
    line = _ABSOLUTE.sub(rb"\1 ", _REASON.sub(rb"\1 ", message.line)).rstrip(b" ")
    return View(line, message.fields, bytes(message.body), message.trailers, message.whole)


def websocket(raw: bytes) -> list[tuple[str, bytes]]:
    """The messages and the control frames, each kind in its order, unmasked and inflated; last what is no frame."""
    messages: list[tuple[str, bytes]] = []
    controls: list[tuple[str, bytes]] = []
    open_message = bytearray()
    at = 0
    while len(raw) - at >= 2:
        first, size, start = raw[at], raw[at + 1] & 0x7F, at + 2
        if size > 125:
            wide = 2 if size == 126 else 8
            size, start = int.from_bytes(raw[start : start + wide]), start + wide
        mask = b"\0\0\0\0"
        if raw[at + 1] & 0x80:
            mask, start = raw[start : start + 4], start + 4
        if start + size > len(raw):
            break
        payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(raw[start : start + size]))
        at = start + size
        if first & 0x08:
            controls.append((f"control {first:x}", payload))
            continue
        open_message += _inflated(payload) if first & 0x40 else payload
        if first & 0x80:
            messages.append(("message", bytes(open_message)))
            open_message.clear()
    return [*messages, *controls, ("rest", raw[at:])]


def _inflated(payload: bytes) -> bytes:
    """RFC 7692 section 7.2.2. A context that is kept over messages does not occur in the shapes."""
    try:
        return zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
    except zlib.error as error:
        return f"not to be inflated: {error}".encode()


def lists(seen: Seen) -> tuple[list[View], list[View], bytes]:
    """Messages, interim responses, and what came of another protocol."""
    reader = seen.reader
    return [view(one) for one in reader.messages], [view(one) for one in reader.interim], bytes(reader.raw)


def differences_of_bytes(shape: Shape, client: Seen, origin: Seen, direct: tuple[Seen, Seen]) -> list[str]:
    """What the fast lane has changed."""
    found = _errors(client, origin)
    for who, got, sent in (("origin", origin.received, client.sent), ("client", client.received, origin.sent)):
        same = sent.startswith(got) if shape.cut else got == sent
        if not same:
            found.append(f"the {who} received {where(got, sent)}")
    for who, ended, plain in (("client", client.ended, direct[0].ended), ("origin", origin.ended, direct[1].ended)):
        if _manner(ended, shape) != _manner(plain, shape):
            found.append(f"the {who}'s connection ended with {ended!r}, directly with {plain!r}")
    return found


def differences_of_messages(shape: Shape, client: Seen, origin: Seen, direct: tuple[Seen, Seen]) -> list[str]:
    """What the inspection lane has changed, beyond what it may."""
    found = _errors(client, origin)
    for who, now, then in (("client", client, direct[0]), ("origin", origin, direct[1])):
        got, plain = lists(now), lists(then)
        if shape.cut:
            found += _differences_of_cut(who, got[0], plain[0])
            continue
        for what, here, there in zip(("message", "interim response"), got, plain, strict=False):
            found += [
                f"the {who}'s {what} {n} is {one!r}\n  directly {other!r}"
                for n, (one, other) in enumerate(zip(here, there, strict=False))
                if one != other
            ]
            if len(here) != len(there):
                found.append(f"the {who} saw {len(here)} {what}s, directly {len(there)}: {here!r:.500}")
        if _other(shape, got[2]) != _other(shape, plain[2]):
            found.append(f"the {who}'s other protocol: {where(got[2], plain[2])}")
    if (client.ended == "open") != (direct[0].ended == "open"):
        found.append(f"the client's connection ended with {client.ended!r}, directly with {direct[0].ended!r}")
    if shape.cut and direct[0].ended in ("cut", "reset") and client.ended == "notify" and _unmarked(client):
        found.append("the client cannot tell that the answer was cut")
    return found


def _other(shape: Shape, raw: bytes) -> object:
    return websocket(raw) if shape.name.startswith("websocket") else raw


def _differences_of_cut(who: str, got: list[View], plain: list[View]) -> list[str]:
    """A cut message may be shorter, and must not look whole."""
    for here, there in zip(got, plain, strict=False):
        refused = who == "client" and here.line.startswith(b"HTTP/1.1 502")
        if refused and not there.fields:
            continue
        if here.whole and not there.whole:
            return [f"the {who} takes a cut message for the whole: {here!r}"]
        shorter, longer = sorted((here.body, there.body), key=len)
        if not longer.startswith(shorter) or here.fields != there.fields:
            return [f"the {who}'s cut message is {here!r}\n  directly {there!r}"]
    if len(got) > len(plain) and not (who == "client" and got[-1].line.startswith(b"HTTP/1.1 502")):
        return [f"the {who} saw {got!r:.500}\n  directly {plain!r:.500}"]
    return []


def _unmarked(client: Seen) -> bool:
    """The last answer has nothing but the connection's end to tell its own."""
    last = client.reader.messages[-1] if client.reader.messages else None
    return last is not None and not last.values(b"content-length") and not last.values(b"transfer-encoding")


def _errors(client: Seen, origin: Seen) -> list[str]:
    return [f"{who}: {seen.error}" for who, seen in (("client", client), ("origin", origin)) if seen.error]


def _manner(ended: str, shape: Shape) -> str:
    return "cut" if shape.cut and ended == "reset" else ended


def where(got: bytes, sent: bytes) -> str:
    """Where two runs of bytes part."""
    block = 65_536
    at = 0
    while at < len(got) and got[at : at + block] == sent[at : at + block]:
        at += block
    at = min(at, len(got))
    at += next((n for n, (a, b) in enumerate(zip(got[at:], sent[at:], strict=False)) if a != b), 0)
    here, there = got[max(0, at - 20) : at + 40], sent[max(0, at - 20) : at + 40]
    return f"{len(got)} bytes, of {len(sent)}; from {at} on {here!r} instead of {there!r}"
