"""Error settings: what is done about each defect, and what a change would have done to the last day's traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from starlette.datastructures import FormData

from certs.verdict import COVERED_BY_UNTRUSTED, UNTRUSTED, Action, Defect
from console import problems
from console.trying import try_it
from console.web import trials
from console.web.defects import ABOUT, ACTION_MEANS, ACTIONS, GROUPS, About, title
from console.web.pages import Changing, Viewing, done, render, seen, wrong
from control import error_settings
from control.error_settings import ROWS, ErrorRow, available
from control.errors import Outdated

router = APIRouter(prefix="/t/{tenant}/errors")
WAS = "was-"
"""Before a row's name: what the page had. A row that was not touched there stays as it is, whoever changed it since."""
MOST_TOLD = 4


@dataclass(frozen=True, slots=True)
class Setting:
    """A row as the page has it. ``value``: the action that is set; empty: none is. ``options``: what can be."""

    row: ErrorRow
    about: About
    value: str
    options: tuple[tuple[str, str], ...]
    hint: str
    covered: bool

    @property
    def by(self) -> str:
        """Where the action comes from, in words."""
        if self.row.is_set:
            return "set"
        return f"from {title(self.row.inherited_from).lower()}" if self.row.inherited_from is not None else "default"


async def _form(request: Request) -> Mapping[str, str]:
    form: FormData = await request.form(max_files=0, max_fields=4 * len(ROWS))
    return {name: value[:200] for name, value in form.items() if isinstance(value, str)}


Filled = Annotated[Mapping[str, str], Depends(_form)]


@router.get("")
def page(tenant: str, request: Request, visit: Viewing) -> Response:
    """Every row, by what belongs together."""
    tag = seen(visit, tenant)
    rows = {one.row: one for one in error_settings.show(visit.inst, tenant)}
    revocation = visit.inst.settings.verification.revocation
    groups = [(name, [_setting(rows[row], rows[UNTRUSTED], revocation) for row in names]) for name, names in GROUPS]
    context = {"groups": groups, "seen": tag, "actions": ACTIONS, "means": ACTION_MEANS, "tab": "settings"}
    return render(request, "errors.html", context, visit=visit, tenant=tenant, here="errors")


@router.post("/trial")
def trial(tenant: str, request: Request, visit: Changing, form: Filled) -> Response:
    """What the changes that were made on the page would do; nothing is saved."""
    changes = _changes(form)
    if not changes:
        return _bar(request, {"changes": {}})
    try:
        found = trials.told(try_it(visit, tenant, lambda inst: error_settings.change(inst, tenant, changes, visit.now)))
    except problems.EXPECTED as error:
        return _refused(request, changes, error)
    return _bar(request, {"changes": changes, "told": found, "notes": {row: found.of(row) for row in changes}})


@router.post("")
def save(tenant: str, request: Request, visit: Changing, form: Filled) -> Response:
    """Save them all, or none."""
    changes, inst = _changes(form), visit.inst
    undone = form.get("seen", "").isascii() and form.get("seen", "").isdigit()
    if undone:
        # What was saved is taken back only where nobody has changed it since.
        inst = inst.having_seen(int(form["seen"][:18]))
    try:
        changed = error_settings.change(inst, tenant, changes, visit.now)
    except problems.EXPECTED as error:
        if undone:
            raise
        return _refused(request, changes, error)
    address = f"/t/{quote(tenant, safe='')}/errors"
    if undone or not changed:
        return done(request, visit, address, "Taken back." if undone else "Nothing was changed.")
    fields = {row: form.get(f"{WAS}{row}", "") for row in changed}
    fields |= {f"{WAS}{row}": changes[row] or "" for row in changed}
    fields["seen"] = seen(visit, tenant).strip('"g')
    return done(request, visit, address, "\n".join(_in_words(changes, changed)), undo=address, fields=fields)


def _setting(row: ErrorRow, master: ErrorRow, revocation: str) -> Setting:
    possible, why = available(row.row)
    covered = row.row in COVERED_BY_UNTRUSTED
    default = f"As untrusted: {ACTIONS[master.action].lower()}" if covered else "Default: block"
    hint = why[:1].upper() + why[1:] + "." if why else ""
    if row.row == Defect.REVOCATION_UNKNOWN and revocation == "off":
        hint = "It is not looked for: verification.revocation is off in the configuration."
    options = (("", default), *((action.value, ACTIONS[action]) for action in possible))
    return Setting(row, ABOUT[row.row], row.action.value if row.is_set else "", options, hint, covered)


def _changes(form: Mapping[str, str]) -> dict[str, str | None]:
    """Rows that were changed on the page; None: to its default."""
    return {row: form[row] or None for row in ROWS if row in form and form[row] != form.get(f"{WAS}{row}", "")}


def _bar(request: Request, context: Mapping[str, Any], status: int = HTTPStatus.OK) -> Response:
    every: dict[str, Any] = {"error": "", "told": None, "notes": {}, "rows": ROWS, "most": trials.MOST_SHOWN}
    return render(request, "errors_bar.html", {**every, **context}, status=status)


def _refused(request: Request, changes: Mapping[str, str | None], error: Exception) -> Response:
    if isinstance(error, Outdated):
        raise error
    return _bar(request, {"changes": changes, "error": wrong(error, request)}, HTTPStatus.UNPROCESSABLE_ENTITY)


def _in_words(changes: Mapping[str, str | None], changed: list[str]) -> Iterator[str]:
    for row in changed[:MOST_TOLD]:
        action = changes[row]
        yield f"{title(row)}: {ACTIONS[Action(action)].lower() if action is not None else 'its default counts again'}."
    if len(changed) > MOST_TOLD:
        yield f"And {len(changed) - MOST_TOLD} more."
