"""What every page begins and ends with: who is here, what the frame shows, and how a page answers a change.

Pages are for sessions alone; an API token is for the API. A change comes from htmx with the session's CSRF token. It is
answered with a fragment, or with the address to go to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Request, Response
from fastapi.params import Depends as Dependency
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse

from console import problems
from console.etags import etag
from console.flashes import Flash
from console.parts import Parts, parts_of
from console.visit import Visit, arrived, known
from console.web import static, words
from console.web.kept import Pages
from control import tenants
from control.authorisation import Action
from control.due import Due
from store.errors import StoreError

THEMES = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Item:
    """A page in the navigation. ``{tenant}`` in its path is the tenant's name; ``needs``: who may not sees it not."""

    key: str
    label: str
    path: str
    needs: Action = Action.VIEW


@dataclass(frozen=True, slots=True)
class Group:
    """Pages that belong together."""

    label: str
    items: tuple[Item, ...]


NAVIGATION = (
    Group(
        "",
        (
            Item("overview", "Overview", "/t/{tenant}/"),
            Item("traffic", "Traffic", "/t/{tenant}/traffic"),
        ),
    ),
    Group(
        "Decryption",
        (
            Item("certificates", "Certificates", "/t/{tenant}/certificates/trusted"),
            Item("errors", "Error settings", "/t/{tenant}/errors"),
            Item("bypass", "Bypass rules", "/t/{tenant}/bypass"),
            Item("kmip", "On-premises infrastructure", "/t/{tenant}/kmip"),
        ),
    ),
    Group("Clients", (Item("users", "Ways in", "/t/{tenant}/users"),)),
    Group(
        "Installation",
        (
            Item("nodes", "Nodes", "/t/{tenant}/nodes"),
            Item("audit", "Audit log", "/t/{tenant}/audit"),
            Item("accounts", "Accounts and tokens", "/accounts", Action.VIEW_ACCOUNTS),
            Item("tenants", "Tenants", "/tenants", Action.OWN_ACCOUNT),
        ),
    ),
)


def environment(clock: Callable[[], datetime]) -> Environment:
    """Where templates come from. Everything is escaped, and a name that is not given is an error."""
    made = Environment(
        loader=PackageLoader("console.web"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(words.filters(clock))
    made.globals.update(static.globals_())
    return made


def templates_of(parts: Parts) -> Environment:
    """The templates of an application, made once."""
    made = parts.made.get("templates")
    if made is None:
        made = parts.made.setdefault("templates", environment(parts.clock))
    assert isinstance(made, Environment)  # noqa: S101 - nobody else puts anything there
    return made


def here(request: Request) -> Visit:
    """Whoever is signed in. Raises Problem where nobody is: an API token is not for pages."""
    visit = known(request)
    if visit.signed_in is None:
        raise problems.unauthorized()
    return visit


Here = Annotated[Visit, Depends(here)]


def _with(allowed: tuple[Due, ...]) -> Callable[[Request], Visit]:
    def here(request: Request) -> Visit:
        visit = arrived(request)
        if visit.signed_in is None:
            raise problems.unauthorized()
        if visit.due is None:
            visit.need(Action.OWN_ACCOUNT, None)
        elif visit.due not in allowed:
            raise problems.due(visit.due, visit.who.account)
        return visit

    return here


def page_with(*allowed: Due) -> Dependency:
    """A dependency: who is signed in sees to his own account, also where one of these is what he has to do first."""
    found: Dependency = Depends(_with(allowed))
    return found


def _of_tenant(action: Action) -> Callable[[str, Visit], Visit]:
    def allowed(tenant: str, visit: Here) -> Visit:
        visit.need(action, tenant)
        return visit

    return allowed


def page_of_tenant(action: Action) -> Dependency:
    """A dependency: who is signed in may do that with the tenant of the path."""
    found: Dependency = Depends(_of_tenant(action))
    return found


Viewing = Annotated[Visit, page_of_tenant(Action.VIEW)]
Changing = Annotated[Visit, page_of_tenant(Action.CHANGE)]


def render(
    request: Request,
    template: str,
    context: Mapping[str, Any],
    *,
    visit: Visit | None = None,
    tenant: str | None = None,
    here: str = "",
    status: int = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """A page or a fragment. ``here`` is the key of the page in the navigation.

    A page that changes a tenant's things has its generation (``seen``): forms send it back as ``If-Match``.
    """
    parts = parts_of(request)
    frame = _frame(request, parts, visit, tenant) if visit is not None else {}
    text = templates_of(parts).get_template(template).render(
        {"theme": theme_of(request), "here": here, "tenant": tenant, **frame, **context}
    )  # fmt: skip
    if visit is not None and request.method == "GET" and status == HTTPStatus.OK and not is_htmx(request):
        pages_of(parts).keep(request, text, visit.now)
    return HTMLResponse(text, status, dict(headers or {}))


def pages_of(parts: Parts) -> Pages:
    """Pages as they were last."""
    made = parts.made.setdefault("pages", Pages())
    assert isinstance(made, Pages)  # noqa: S101 - nobody else puts anything there
    return made


def theme_of(request: Request) -> str | None:
    """The theme that was chosen; None: the system's."""
    theme = request.cookies.get("theme")
    return theme if theme in THEMES else None


def _frame(request: Request, parts: Parts, visit: Visit, tenant: str | None) -> dict[str, Any]:
    signed_in = visit.signed_in
    assert signed_in is not None  # noqa: S101 - pages are for sessions
    names = [one.name for one in tenants.listing(visit.inst) if visit.sees(one.name)]
    chosen = tenant or (names[0] if names else None)
    return {
        "csrf": signed_in.csrf,
        "account": signed_in.account.name,
        "role": visit.who.role.value,
        "tenants": names,
        "navigation": list(_navigation(visit, chosen)),
        "flashes": () if is_htmx(request) else parts.flashes.take(signed_in.session.id),
        "may_change": tenant is not None and visit.may(Action.CHANGE, tenant),
    }


def _navigation(visit: Visit, tenant: str | None) -> Iterator[Group]:
    for group in NAVIGATION:
        items = [
            Item(item.key, item.label, item.path.format(tenant=quote(tenant or "", safe="")), item.needs)
            for item in group.items
            if visit.may(item.needs, tenant) and (tenant is not None or "{tenant}" not in item.path)
        ]
        if items:
            yield Group(group.label, tuple(items))


def is_htmx(request: Request) -> bool:
    """Whether htmx asks, for a fragment."""
    return request.headers.get("hx-request") == "true"


def seen(visit: Visit, tenant: str) -> str:
    """The entity tag for ``If-Match`` of a form. To be asked for before what the form shows is read."""
    with visit.inst.reading(tenant) as (_, found):
        return etag(found.generation)


def done(request: Request, visit: Visit, address: str, text: str = "", **more: Any) -> Response:
    """What a change is answered with: go there, where ``text`` is said, with a way back (``undo``, ``fields``)."""
    if text and visit.signed_in is not None:
        parts_of(request).flashes.add(visit.signed_in.session.id, Flash(text, **more))
    return go(request, address)


def go(request: Request, address: str) -> Response:
    """Go to another page."""
    if is_htmx(request):
        return Response(status_code=HTTPStatus.OK, headers={"HX-Redirect": address})
    return Response(status_code=HTTPStatus.SEE_OTHER, headers={"Location": address})


def wrong(error: Exception, request: Request) -> str:
    """What a form says of an error that the use cases raise on purpose; one that is none of these is raised again."""
    if isinstance(error, StoreError) or not isinstance(error, problems.EXPECTED):
        raise error
    return problems.of(error, parts_of(request).clock()).detail
