"""A ClientHello that says it has 16 MB, sent as long as anybody takes it."""

from __future__ import annotations

import ssl
import struct

from bench.abuse.aim import GONE, Aim, Report, clock, megabytes

SIZE = (1 << 24) - 1
RECORD = 16_384


def huge_hello(aim: Aim) -> Report:
    """One after the other, each up to 16 MB."""
    tries = most = total = 0
    first = b"\x01" + SIZE.to_bytes(3, "big") + b"\x03\x03"
    body = first + bytes(RECORD - len(first))
    more = clock(aim.seconds)
    while more():
        sent = 0
        try:
            with aim.tunnel() as tunnel:
                while sent < SIZE:
                    tunnel.sendall(b"\x16\x03\x01" + struct.pack(">H", RECORD) + body)
                    sent += RECORD
                    body = bytes(RECORD)
        except GONE:
            pass
        body = first + bytes(RECORD - len(first))
        tries, most, total = tries + 1, max(most, sent), total + sent
    return Report(f"{tries} hellos, {megabytes(total)}; at most {megabytes(most)} of one taken")


def fragments(aim: Aim) -> Report:
    """A hello in records of one byte, then a request in records of one byte, each in a write of its own."""
    context = aim.context()
    done = refused = records = 0
    more = clock(aim.seconds)
    while more():
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=aim.host)
        try:
            with aim.tunnel() as tunnel:
                hello = True
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        data = outgoing.read()
                        if hello:
                            hello = False
                            for at in range(5, len(data)):
                                tunnel.sendall(b"\x16\x03\x01\0\x01" + data[at : at + 1])
                                records += 1
                        else:
                            tunnel.sendall(data)
                        piece = tunnel.recv(65_536)
                        if not piece:
                            raise ConnectionError("closed") from None
                        incoming.write(piece)
                for byte in aim.request("/t/fragments", "Connection: close\r\n"):
                    tls.write(bytes([byte]))
                    tunnel.sendall(outgoing.read())
                    records += 1
                answer = b""
                while b"/t/fragments\n" not in answer:
                    piece = tunnel.recv(65_536)
                    if not piece:
                        raise ConnectionError("closed")
                    incoming.write(piece)
                    try:
                        answer += tls.read(65_536)
                    except ssl.SSLWantReadError:
                        continue
                done += 1
        except GONE:
            refused += 1
    return Report(f"{records} records of one byte; {done} requests answered, {refused} connections refused")
