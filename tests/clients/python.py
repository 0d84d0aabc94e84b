"""Python's clients: urllib, requests, websockets."""

from __future__ import annotations

from tests.clients.base import TEXT, Visit, client, variables

PYTHON = ("python", "-I", "-c")


@client(
    "Python, urllib",
    version=["python", "--version"],
    explicit=variables("https_proxy=http://{proxy}"),
    root=variables("SSL_CERT_FILE={root}"),
    refusal="CERTIFICATE_VERIFY_FAILED",
    cheap=True,
)
def python_urllib(visit: Visit) -> str:
    text = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode(), end='')"
    return visit.run(*PYTHON, text, visit.url("/"))


@client(
    "Python, requests",
    version=[*PYTHON, "import requests; print(requests.__version__)"],
    explicit=variables("https_proxy=http://{proxy}"),
    root=variables("REQUESTS_CA_BUNDLE={root}"),
    system=variables("REQUESTS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt"),
    refusal="CERTIFICATE_VERIFY_FAILED",
    note="It brings CAs of its own (certifi)",
    cheap=True,
)
def python_requests(visit: Visit) -> str:
    text = "import sys, requests; print(requests.get(sys.argv[1], timeout=60).text, end='')"
    return visit.run(*PYTHON, text, visit.url("/"))


@client(
    "Python, websockets",
    version=[*PYTHON, "import websockets; print(websockets.__version__)"],
    explicit=variables("https_proxy=http://{proxy}"),
    root=variables("SSL_CERT_FILE={root}"),
    refusal="CERTIFICATE_VERIFY_FAILED",
    note="From version 15 on",
    cheap=True,
)
def python_websockets(visit: Visit) -> str:
    text = """
import sys
from websockets.sync.client import connect
with connect(sys.argv[1], open_timeout=60) as socket:
    socket.send(sys.argv[2])
    print(socket.recv(timeout=60), end="")
"""
    return visit.run(*PYTHON, text, visit.url("/ws", "wss"), TEXT)
