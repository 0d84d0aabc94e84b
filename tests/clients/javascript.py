"""Node.js: from 24 on it takes the proxy from the environment where it is told to; before, a program has to."""

from __future__ import annotations

from tests.clients.base import TEXT, Setting, Visit, client, variables
from tests.harness import programs

NODE = ("node", "-e")
"""The one that `make clients` installs."""
INSTALLED = programs.find("node") or "node"
"""The distribution's, which may be an older one."""
PROXY = variables("NODE_USE_ENV_PROXY=1", "https_proxy=http://{proxy}")
ROOT = variables("NODE_EXTRA_CA_CERTS={root}")
SYSTEM = variables("NODE_USE_SYSTEM_CA=1")
SINCE = "`NODE_USE_ENV_PROXY` from Node.js 22.21 and 24.5 on, `NODE_USE_SYSTEM_CA` from 22.19 and 24.6 on"
REFUSAL = "unable to get local issuer certificate"
GET = """
const https = require("https"), { HttpsProxyAgent } = require("https-proxy-agent"), options = { CODE };
https.get(process.argv[1], options, answer => answer.pipe(process.stdout));
"""
WEBSOCKET = """
const socket = new WebSocket(process.argv[1]);
socket.onopen = () => socket.send(process.argv[2]);
socket.onmessage = message => { process.stdout.write(message.data); socket.close(); };
socket.onerror = event => { console.error(event.error); process.exit(1); };
"""


@client(
    "Node.js, fetch",
    version=["node", "--version"],
    explicit=PROXY,
    root=ROOT,
    system=SYSTEM,
    refusal=REFUSAL,
    note=SINCE,
)
def node_fetch(visit: Visit) -> str:
    text = "fetch(process.argv[1]).then(answer => answer.text()).then(text => process.stdout.write(text))"
    return visit.run(*NODE, text, visit.url("/"))


@client(
    "Node.js, https",
    version=["node", "--version"],
    explicit=PROXY,
    root=ROOT,
    system=SYSTEM,
    refusal=REFUSAL,
    note=SINCE,
)
def node_https(visit: Visit) -> str:
    text = "require('https').get(process.argv[1], answer => answer.pipe(process.stdout))"
    return visit.run(*NODE, text, visit.url("/"))


@client(
    "Node.js, WebSocket",
    version=["node", "--version"],
    explicit=PROXY,
    root=ROOT,
    system=SYSTEM,
    refusal="TypeError",
    note="Its `error` event does not tell why; `fetch` from the same host does",
)
def node_websocket(visit: Visit) -> str:
    return visit.run(*NODE, WEBSOCKET, visit.url("/ws", "wss"), TEXT)


@client(
    "Node.js, https with an agent",
    version=[INSTALLED, "--version"],
    explicit=Setting(code="agent: new HttpsProxyAgent('http://{proxy}')"),
    root=ROOT,
    system=variables("NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"),
    refusal=REFUSAL,
    note="The way for older versions: the program itself says so, with the package `https-proxy-agent`",
    needs=["npm"],
)
def node_agent(visit: Visit) -> str:
    # npm brings the package, for its own use.
    modules = visit.run("sh", "-c", 'dirname "$(dirname "$(readlink -f "$(command -v npm)")")"').strip()
    text = GET.replace("CODE", visit.code)
    return visit.run(INSTALLED, "-e", text, visit.url("/"), NODE_PATH=f"{modules}/node_modules")
