"""What the supervisor and a worker say to each other on the control socket, and what both must agree on."""

from __future__ import annotations

from pathlib import Path

from config.settings import Listener

READY = b"r"
"""From a worker: it accepts connections."""
DRAIN = b"d"
"""To a worker: the daemon ends. Accept no more, let what is under way end, then end."""
RETIRE = b"o"
"""To a worker: others have taken over. Accept no more, let connections end by themselves, then end."""
RELOAD = b"h"
"""To a worker: load the inspectors' scripts again."""
RELOADED, NOT_RELOADED = b"k", b"n"
"""From a worker: all scripts are loaded again; at least one stayed as it was, and the log says why."""
BACKLOG = 1024
"""Connections that wait in a listening socket's queue."""
STATUS_SOCKETS = "worker-*.sock"
"""The workers' status sockets in the folder ``run``, each with the process's number in place of the star."""
TUNNELS_SOCKETS = "tunnels-*.sock"
"""The same of the process that ends the tunnels of WireGuard listeners."""
WORKERS_SOCKETS = "wireguard-*.sock"
"""The sockets of :func:`workers_socket` in the same folder."""
ISSUER_SOCKET = ("run", "issuer.sock")
"""Where the issuer listens, below the state directory."""


def workers_socket(state_dir: Path, listener: Listener) -> Path:
    """Where the workers take the connections that come out of a WireGuard listener's tunnels.

    Another tenant's listener has another socket, whatever its name: no connection changes hands while one is replaced.
    """
    return state_dir / "run" / f"wireguard-{listener.name}@{listener.tenant}.sock"


def status_socket(state_dir: Path, pid: int, sockets: str = STATUS_SOCKETS) -> Path:
    """Where the process of that number tells of itself: a worker, or one of another kind."""
    return state_dir / "run" / sockets.replace("*", str(pid))
