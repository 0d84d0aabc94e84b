"""schemathesis over the API as its own document has it: what it thinks up is sent, and every answer is checked."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from console.app import create
from console.visit import COOKIE, CSRF_HEADER
from tests.console.conftest import Console

DOCUMENT = "/api/openapi.json"
ENDLESS = ("/events", "/progress", "/stream")
"""How addresses end whose answers do not."""
KNOWN = {"tenant": "acme", "name": "x"}
"""What there is, so that more is asked than whether something is missing."""
CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {
            # Much that is as documented cannot be done: a name that is taken, a certificate that is none.
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "400", "401", "403", "404", "409", "412", "413", "422", "429"]
            },
        }
    }
)


class Fuzzer:
    """What is sent to a console, in the name of an owner who signs in again where he was signed out."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._app = create(console.parts)
        self._owners = 0
        self.sent = 0
        self._who: dict[str, Any] = {}
        self.schema = schemathesis.openapi.from_asgi(DOCUMENT, self._app, config=CONFIG)

        @self.schema.hook
        def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
            for key, value in (path_parameters or {}).items():
                if key in KNOWN and len(str(value)) % 4:
                    path_parameters[key] = KNOWN[key]  # type: ignore[index] # it is none of nothing
            return path_parameters

        self.sign_in()

    def sign_in(self) -> None:
        """As an owner; what was sent may have deleted the one before."""
        self._owners += 1
        with self._console.inst.store.transaction() as c:  # what was sent for a password must not keep the next one out
            c.exec_driver_sql("DELETE FROM guesses")
        browser = self._console.signed_in(f"owner{self._owners}")
        self._who = {
            "headers": {CSRF_HEADER: browser.headers[CSRF_HEADER]},
            "cookies": {COOKIE: browser.cookies[COOKIE]},
        }

    def run(self, examples: int, only: str = "", *, again: bool = False, until: float | None = None) -> Iterator[str]:
        """So many examples, as documented and not as documented, for each operation; and what was wrong with answers.

        ``only``: those whose path ends so. ``again``: others than the last time.
        ``until``: by the monotonic clock, no operation is begun after it.
        """
        operations = [result.ok() for result in self.schema.get_all_operations()]
        if until is not None:
            random.shuffle(operations)  # not the same ones are left out each time
        for operation in operations:
            if (
                not operation.path.endswith(only)
                or operation.path.endswith(ENDLESS)
                or (until is not None and time.monotonic() >= until)
            ):
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                yield from self._operation(operation, mode, examples, again)

    def _operation(self, operation: Any, mode: GenerationMode, examples: int, again: bool) -> Iterator[str]:
        faults: dict[str, str] = {}

        @settings(
            max_examples=examples, deadline=None, database=None, derandomize=not again, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck), verbosity=Verbosity.quiet,
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def one(case: Any) -> None:
            self.sent += 1
            response = case.call(**self._who)
            if response.status_code == 401:
                self.sign_in()
                response = case.call(**self._who)
            try:
                case.validate_response(response, transport_kwargs=self._who)
            except (schemathesis.errors.SchemathesisError, AssertionError, BaseExceptionGroup) as error:
                for each in getattr(error, "exceptions", (error,)):
                    kind = f"{type(each).__name__} {getattr(each, 'title', '')}"
                    told = f"{mode.name} {operation.label}: {each}\n{case.as_curl_command()[:600]}"
                    faults.setdefault(kind, f"{told}\n{response.status_code} {response.content[:300]!r}")

        one()
        yield from faults.values()
