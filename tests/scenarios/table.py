"""The table of ``docs/verdicts.md``: where curl and Chromium come to something else than we do, and why.

It is made of what the cases record; ``make verdicts`` asks both again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.scenarios import SCENARIOS
from tests.scenarios.base import ACCEPTS, REFUSES, Says, Scenario
from tests.scenarios.other_clients import Word

DOCUMENT = Path(__file__).parents[2] / "docs" / "verdicts.md"
HEADING = "## Where curl and Chromium come to something else"
RECORDED_WITH = "curl 7.88.1 with OpenSSL 3.0.20, Chromium 156"


def ours(scenario: Scenario) -> Says:
    return ACCEPTS if scenario.good else REFUSES


def of_curl(scenario: Scenario) -> Says:
    """What curl is recorded to say."""
    return scenario.curl_says or ours(scenario)


def of_chromium(scenario: Scenario) -> Says:
    """The same of Chromium."""
    return scenario.chromium_says or ours(scenario)


def section() -> str:
    """The heading, and all up to the end of the document."""
    asked = [one for one in SCENARIOS if not one.hindrance]
    rows = "".join(
        f"| `{one.id}` | {', '.join(one.defects) or 'good'} | {of_curl(one)} | {of_chromium(one)} | {one.why} |\n"
        for one in sorted(asked, key=lambda one: one.id)
        if one.why
    )
    stricter, milder = _counts(asked, ACCEPTS), _counts(asked, REFUSES)
    return f"""{HEADING}

Every rule of the verdict has cases in `tests/scenarios`: {len(SCENARIOS)} servers, each with the verdict on it and the
clause that it rests on. {len(asked)} of them are asked for on a real server, through the proxy, and without it by curl
and Chromium, which trust what the case trusts. Of what we refuse, curl accepts {stricter[0]} and Chromium
{stricter[1]}; of what we accept, curl refuses {milder[0]} and Chromium {milder[1]}. Here is each. `form/version_4` is
the function `version_4` of `tests/scenarios/form.py`. The cases of `revocation` are judged as with `revocation: soft`,
those that nobody tells of (`revocation_unknown`) as with `hard`. curl and Chromium are as they come: neither fetches
CRLs or asks responders, and Chromium alone looks at what a server sends along.

Recorded with {RECORDED_WITH}; `make verdicts` asks them again.

| case | Sallyport | curl | Chromium | why |
|---|---|---|---|---|
{rows}"""


def _counts(scenarios: list[Scenario], says: Says) -> tuple[int, int]:
    """How many curl, and how many Chromium, says this of where we say the contrary."""
    differ = [one for one in scenarios if ours(one) != says]
    return sum(of_curl(one) == says for one in differ), sum(of_chromium(one) == says for one in differ)


def written() -> str:
    """The same as the document has it."""
    _, heading, rest = DOCUMENT.read_text().partition(HEADING)
    return heading + rest


def before() -> str:
    """What the document has in front of it."""
    return DOCUMENT.read_text().partition(HEADING)[0]


def differences(said: dict[str, tuple[Word, Word]]) -> Iterator[str]:
    """Where what was said is not what is recorded."""
    for one in SCENARIOS:
        if one.id in said:
            for client, recorded, word in zip(
                ("curl", "chromium"), (of_curl(one), of_chromium(one)), said[one.id], strict=True
            ):
                if word.says != recorded:
                    yield f"{one.id}: {client}_says={word.says.upper()} {word.reason}"
