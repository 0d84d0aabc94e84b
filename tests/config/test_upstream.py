from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from config.loader import load
from config.problems import ConfigError
from config.settings import Settings


def problems(folder: Path, *entries: dict[str, Any]) -> str:
    file = folder / "sallyport.yaml"
    file.write_text(yaml.safe_dump({"upstream": {"proxies": list(entries)}}))
    with pytest.raises(ConfigError) as caught:
        load(file, {}, folder)
    return str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["proxy.example", "proxy.example:0", "proxy.example:65536", ":3128", "http://proxy.example:3128", "DIRECT"],
)
def test_an_address_is_direct_or_a_host_with_its_port(tmp_path: Path, address: str) -> None:
    told = problems(tmp_path, {"hosts": ["*"], "address": address})
    assert "upstream.proxies[0].address" in told
    assert "HOST:PORT" in told


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    assert "secret" not in problems(tmp_path, {"hosts": ["*"], "address": "user:secret@proxy.example:3128"})


@pytest.mark.parametrize(
    "entry",
    [
        {"address": "a.example:1", "username": "house"},
        {"address": "a.example:1", "password_file": "x"},
        {"address": "a.example:1", "username": "ho:use", "password_file": "x"},
        {"address": "a.example:1", "ca_file": "x"},
        {"address": "direct", "tls": True},
        {"address": "direct", "username": "house", "password_file": "x"},
    ],
)
def test_what_does_not_go_together_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"expected|cannot be sent"):
        Settings.model_validate({"upstream": {"proxies": [{"hosts": ["*"]} | entry]}})


def test_its_files_are_looked_at_and_named_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o640)
    login = {"hosts": ["*"], "address": "a.example:1", "username": "house"}
    told = problems(
        tmp_path,
        {**login, "password_file": "open"},
        {**login, "password_file": "missing"},
        {"hosts": ["*"], "address": "a.example:1", "tls": True, "ca_file": "."},
        {"hosts": ["*"], "address": "a.example:1", "tenants": ["nobody"]},
    ).splitlines()
    assert [f"upstream.proxies[{place}]" in line for place, line in enumerate(told)] == [True] * 4
    assert "chmod 600" in told[0]
    assert "No such file" in told[1]
    assert "no file" in told[2]
    assert "nobody" in told[3]
    assert all(line.split(":")[1].isdigit() for line in told)
    assert "secret" not in "".join(told)


def test_files_come_back_absolute(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o600)
    file = tmp_path / "sallyport.yaml"
    entry = {"hosts": ["*"], "address": "a.example:1", "username": "house", "password_file": "password"}
    file.write_text(yaml.safe_dump({"upstream": {"proxies": [entry]}}))
    made = load(file, {}, Path("/")).settings
    assert made.upstream.proxies[0].password_file == str(tmp_path / "password")
    assert "secret" not in made.model_dump_json()
