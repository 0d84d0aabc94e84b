"""``sallyport probe`` against real servers, without a daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx, Site
from tests.harness.pki import Authority
from tests.harness.processes import free_port


def test_it_tells_what_the_daemon_would_do(tmp_path: Path) -> None:
    public, private = Authority.root("Public Root"), Authority.root("Private Root")
    issuing = public.intermediate("Public Issuing")
    names = ("good.example", "private.example")
    daemon = Daemon(tmp_path, hosts=dict.fromkeys((*names, "down.example"), "127.0.0.1"), common=public)
    sites = [Site(names[0], issuing.leaf(names[0])), Site(names[1], private.leaf(names[1]), with_root=True)]
    with Nginx(tmp_path, sites) as origin:

        def probed(name: str, port: int) -> tuple[int, dict[str, Any]]:
            done = daemon.cli("probe", "--json", f"{name}:{port}")
            assert done.stderr == ""
            told: dict[str, Any] = json.loads(done.stdout)
            return done.returncode, told

        status, told = probed("good.example", origin["good.example"].port)
        assert (status, told["passes"], told["findings"]) == (0, True, [])
        assert (told["tls_version"], told["alpn"], told["address"]) == ("TLSv1.3", "h2", "127.0.0.1")

        port = origin["private.example"].port
        status, told = probed("private.example", port)
        assert (status, told["action"], told["passes"]) == (1, "block", False)
        (finding,) = told["findings"]
        assert finding["defect"] == "untrusted_root"
        assert finding["remedy"]

        daemon.told("trusted-ca", "add", "private", "-", stdin=private.pem().decode())
        assert probed("private.example", port)[0] == 0
        daemon.told("trusted-ca", "limit", "private", "*.corp.example")
        status, told = probed("private.example", port)
        assert (status, told["elsewhere"]) == (
            1, [{"trusted_ca": "private", "why": "it counts for *.corp.example"}],
        )  # fmt: skip
        daemon.told("trusted-ca", "deactivate", "private")
        assert "would vouch for it, but it is not active." in daemon.cli("probe", f"private.example:{port}").stdout
        daemon.told("trusted-ca", "delete", "private")
        daemon.told("errors", "set", "untrusted_root", "allow")
        status, told = probed("private.example", port)
        assert (status, told["action"], told["passes"]) == (0, "allow", True)
        assert [one["by"] for one in told["reasons"]] == ["row untrusted_root"]
        assert origin.requests() == []

    status, told = probed("down.example", free_port())
    assert (status, told["passes"]) == (1, False)
    assert "refused" in str(told["failure"])
    denied = Daemon(tmp_path / "denied", allow=(), hosts={"good.example": "127.0.0.1"})
    done = denied.cli("probe", "good.example")
    assert done.returncode == 1
    assert "Not reached: the egress rules do not permit 127.0.0.1" in done.stdout
