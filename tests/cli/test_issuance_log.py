from __future__ import annotations

import json
from pathlib import Path

from config.settings import Settings
from control.installation import Installation
from tests.cli.conftest import Run
from tests.harness.leaves import record
from tests.harness.pki import NOW


def test_every_leaf_that_was_signed_is_listed_the_newest_first(run: Run, tmp_path: Path) -> None:
    assert run("tenant", "create", "acme").exit_code == 0
    with Installation.open(Settings(state_dir=tmp_path / "state"), NOW) as inst:
        record(inst, "default", "www.example.com", "mail.example.com")
        record(inst, "acme", "acme.example")
    told = json.loads(run("issuance-log", "--json").stdout)
    assert [one["host"] for one in told] == ["mail.example.com", "www.example.com"]
    assert [one["host"] for one in json.loads(run("issuance-log", "--host", "WWW", "--json").stdout)] == [
        "www.example.com"
    ]
    assert "acme.example" in run("issuance-log", "--all-tenants").stdout
    assert "No leaf was signed." in run("issuance-log", "--host", "nowhere").stdout
    assert run("--tenant", "nobody", "issuance-log").exit_code == 1
