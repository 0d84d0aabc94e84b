"""Configuration files: settings, or every problem with its line; the same settings once written and read again."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from config.loader import DEFAULT_FILE, describe, load
from config.problems import ConfigError
from config.settings import Settings
from tests.fuzz.strategies import EDITS, YAML_PARTS, edit

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-configuration-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
DEFAULTS = DEFAULT_FILE.read_bytes()
WRITTEN: dict[str, Any] = yaml.safe_load(DEFAULTS)
LEAVES = [(section, name) for section, values in WRITTEN.items() if isinstance(values, dict) for name in values]


def changed(changes: list[tuple[tuple[str, str], Any]]) -> bytes:
    """The defaults, with values replaced."""
    made: dict[str, Any] = {name: dict(value) if isinstance(value, dict) else value for name, value in WRITTEN.items()}
    for (section, name), value in changes:
        made[section][name] = value
    return yaml.safe_dump(made).encode()


VALUES = PLAIN | st.sampled_from(
    [
        0,
        -1,
        1,
        2**63,
        1e308,
        "127.0.0.1:0",
        "[::1]:99999",
        "10.0.0.0/8",
        "*",
        "a.example",
        "certifi",
        "/nowhere/x.pem",
        True,
    ]
)
FILES = st.one_of(
    st.lists(st.tuples(st.sampled_from(LEAVES), VALUES), max_size=3).map(changed),
    st.builds(edit, st.just(DEFAULTS), EDITS),
    st.lists(YAML_PARTS, max_size=30).map(lambda parts: "".join(parts).encode()),
    st.binary(max_size=120),
)


@given(FILES)
def test_any_file_is_settings_or_every_problem_with_its_line(data: bytes) -> None:
    file = FOLDER / "settings.yaml"
    file.write_bytes(data)
    try:
        settings = load(file, {}, FOLDER).settings
    except ConfigError as error:
        lines = 2 + sum(data.count(each) for each in (b"\n", b"\r", b"\xe2\x80", b"\xc2\x85"))
        assert error.problems
        for problem in error.problems:
            assert problem.message
            assert problem.line is None or 1 <= problem.line <= lines
        assert all(line.isprintable() for line in str(error).split("\n"))
        return
    told = describe(settings)
    assert Settings.model_validate(told) == settings
    file.write_text(yaml.safe_dump(told))
    assert load(file, {}, FOLDER).settings == settings
