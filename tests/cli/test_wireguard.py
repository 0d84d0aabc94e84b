from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.cli.conftest import Run

ENDPOINT = ("--endpoint", "vpn.example:51820")


def test_a_configuration_is_printed_once(run: Run) -> None:
    done = run("wireguard", "peer", "add", "phone", *ENDPOINT)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == "[Interface]"
    assert lines[1].startswith("PrivateKey = ")
    assert lines[2:4] == ["Address = 10.113.0.2/32, fd73:7077:67::2/128", "DNS = 10.113.0.1"]
    assert "Endpoint = vpn.example:51820" in lines
    assert "AllowedIPs = 0.0.0.0/0, ::/0" in lines
    assert "peer phone is let in" in done.stderr
    private = lines[1].partition(" = ")[2]
    listed = run("wireguard", "peer", "list", "--json")
    assert private not in listed.stdout + run("audit-log", "--json").stdout
    (peer,) = json.loads(listed.stdout)
    assert (peer["name"], peer["ipv4"]) == ("phone", "10.113.0.2")
    assert json.loads(run("wireguard", "show", "--json").stdout)["public_key"] in done.stdout
    assert "phone" in run("wireguard", "peer", "list").stdout
    assert run("wireguard", "peer", "remove", "phone").exit_code == 0
    assert "has no peer" in run("wireguard", "peer", "list").stdout


def test_files_with_a_key_are_for_their_owner_alone(run: Run, tmp_path: Path) -> None:
    file, svg, png = (tmp_path / name for name in ("phone.conf", "phone.svg", "phone.png"))
    done = run("wireguard", "peer", "add", "phone", *ENDPOINT, "--output", str(file), "--qr-file", str(svg), "--qr")
    assert done.exit_code == 0, done.output
    assert "PrivateKey" not in done.stdout
    assert "\N{FULL BLOCK}" in done.stdout or "\N{UPPER HALF BLOCK}" in done.stdout
    assert file.read_text().startswith("[Interface]\nPrivateKey = ")
    assert b"<svg" in svg.read_bytes()
    assert run("wireguard", "peer", "add", "tablet", *ENDPOINT, "--qr-file", str(png)).exit_code == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert {stat.S_IMODE(each.stat().st_mode) for each in (file, svg, png)} == {0o600}


def test_what_cannot_be_written_adds_nobody(run: Run, tmp_path: Path) -> None:
    done = run("wireguard", "peer", "add", "phone", *ENDPOINT, "--output", str(tmp_path / "none" / "phone.conf"))
    assert done.exit_code == 2
    assert "No such file or directory; the peer is not added" in done.stderr
    assert json.loads(run("wireguard", "peer", "list", "--json").stdout) == []


def test_misuse_is_named(run: Run) -> None:
    done = run("wireguard", "peer", "add", "phone")
    assert (done.exit_code, "give --endpoint HOST[:PORT], or set wireguard.endpoint" in done.stderr) == (2, True)
    done = run("wireguard", "peer", "add", "phone", *ENDPOINT, "--qr-file", "phone.gif")
    assert (done.exit_code, "ends in .svg or .png" in done.stderr) == (2, True)
    done = run("wireguard", "peer", "add", "phone", *ENDPOINT, "--qr", "--public-key", "x")
    assert (done.exit_code, "carries the device's private key" in done.stderr) == (2, True)
    done = run("wireguard", "peer", "add", "phone", *ENDPOINT, "--public-key", "x")
    assert (done.exit_code, "'x' is no public key of WireGuard" in done.stderr) == (1, True)
    assert "made with the first peer" in run("wireguard", "show").stdout
