"""What is deployed: the service's units, as systemd itself sees them, and the examples of a gateway."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.gateway_rules import rules_for
from config.loader import load
from tests.harness.programs import need

HERE = Path(__file__).parents[1]
UNIT = HERE / "deploy" / "sallyport.service"
DROP_IN = HERE / "deploy" / "sallyport-gateway.conf"
RULES_UNIT = HERE / "deploy" / "sallyport-gateway-rules.service"
MOST_EXPOSED = 2.5


def installed_in(folder: Path, *, unit: Path, drop_in: Path | None = None) -> Path:
    """A copy of the unit whose program is there, with what extends it."""
    program = folder / "sallyport"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = folder / unit.name
    copy.write_text(unit.read_text().replace("/opt/sallyport/.venv/bin/sallyport", str(program)))
    if drop_in is not None:
        extends = folder / f"{unit.name}.d"
        extends.mkdir()
        (extends / "gateway.conf").write_text(drop_in.read_text())
    return copy


def analyzed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("unit", "drop_in"), [(UNIT, None), (UNIT, DROP_IN), (RULES_UNIT, None)], ids=["unit", "gateway", "rules"]
)
def test_it_is_little_exposed_and_systemd_understands_all_of_it(
    tmp_path: Path, unit: Path, drop_in: Path | None
) -> None:
    there = installed_in(tmp_path, unit=unit, drop_in=drop_in)
    told = analyzed("security", "--offline=true", "--no-pager", str(there))
    found = re.search(rf"Overall exposure level for {re.escape(unit.name)}: ([0-9.]+)", told.stdout)
    assert found is not None, told.stderr
    assert float(found[1]) < MOST_EXPOSED
    # What the drop-in gives counts, so it has been read.
    with_admin = "✗ CapabilityBoundingSet=~CAP_NET_ADMIN" in told.stdout
    assert with_admin == (unit is RULES_UNIT or drop_in is not None)
    told = analyzed("verify", "--man=no", str(there))
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize("name", ["gateway.yaml", "gateway-container.yaml", "container.yaml"])
def test_the_examples_are_good_and_a_gateways_has_both_families(name: str) -> None:
    settings = load(HERE / "deploy" / name, {}, HERE).settings
    if name == "container.yaml":
        assert [listener.mode for listener in settings.listeners] == ["explicit"]
        return
    assert rules_for(settings.listeners, None, ["eth1"], [80, 443]).families == (4, 6)


def test_the_gateways_container_differs_in_its_user_alone() -> None:
    plain, contained = (
        yaml.safe_load((HERE / "deploy" / f"gateway{kind}.yaml").read_text()) for kind in ("", "-container")
    )
    assert contained == {"user": "sallyport", **plain}


def test_the_services_of_the_compose_file_have_what_they_name() -> None:
    services: dict[str, Any] = yaml.safe_load((HERE / "deploy" / "compose.yaml").read_text())["services"]
    assert set(services) == {"proxy", "gateway"}
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert (HERE / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).exists()
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert source == "state" or (HERE / "deploy" / source).exists()


def test_the_image_is_made_of_all_packages() -> None:
    import tomllib

    packages = tomllib.loads((HERE / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    copied = re.findall(r"^COPY (\w+) (\w+)$", (HERE / "deploy" / "Containerfile").read_text(), re.MULTILINE)
    assert copied == [(package, package) for package in sorted(packages)]


def test_a_stop_waits_longer_than_connections_are_drained() -> None:
    from config.settings import Limits

    found = re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text(), re.MULTILINE)
    assert found is not None
    assert int(found[1]) > Limits().drain_timeout + 5
