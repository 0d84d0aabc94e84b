"""Who asks, and what he may: what every route begins with.

A request comes with an API token (``Authorization: Bearer``), or with the session's cookie; one that changes something
over a session carries the session's CSRF token as well (OWASP's synchroniser token). What is asked of
:func:`control.authorisation.may` here is asked nowhere below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Request
from fastapi.params import Depends as Dependency

from console import problems
from console.etags import generation_of
from console.events import MEDIA_TYPE
from console.parts import Parts, parts_of
from control import api_tokens, sessions
from control.actor import Actor
from control.authorisation import Action, Principal, may, may_somewhere
from control.due import Due
from control.installation import Installation
from control.names import storable
from control.sessions import SignedIn

COOKIE = "__Host-sallyport"
"""``__Host-``: from this host alone, over TLS, for every path (RFC 6265bis section 4.1.3.2)."""
CSRF_HEADER = "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is known. ``inst`` acts in his name."""

    inst: Installation
    who: Principal
    now: datetime
    source: str
    """The address that the request is from."""
    signed_in: SignedIn | None = None
    """None: an API token."""
    token: str | None = field(default=None, repr=False)
    """The session's."""

    @property
    def due(self) -> Due | None:
        """What he has to do first. An API token, which is a credential of its own, has nothing to do."""
        return None if self.signed_in is None else self.signed_in.due

    def may(self, action: Action, tenant: str | None) -> bool:
        """Whether he may do that with the tenant, or with the installation as a whole; nothing while he is to do
        something else first.
        """
        return self.due is None and may(self.who, action, tenant)

    def need(self, action: Action, tenant: str | None) -> None:
        """Raise Problem where he may not. A tenant that he must not see, or that can be none, is not there for him."""
        if tenant is not None and not storable(tenant):
            raise no_tenant(tenant)
        if self.may(action, tenant):
            return
        if tenant is not None and not self.sees(tenant):
            raise no_tenant(tenant)
        whom = f"tenant {tenant}" if tenant is not None else "the installation as a whole"
        raise problems.forbidden(f"{self.described} may not do that ({action.value}) with {whom}.")

    def need_somewhere(self, action: Action) -> None:
        """Raise Problem where there is nothing that he may do that with."""
        if self.due is not None or not may_somewhere(self.who, action):
            raise problems.forbidden(f"{self.described} may not do that ({action.value}).")

    def sees(self, tenant: str) -> bool:
        """Whether the tenant is there for him."""
        return self.may(Action.VIEW, tenant)

    @property
    def described(self) -> str:
        """Who it is, in words."""
        token = f"API token {self.who.token} of " if self.who.token is not None else ""
        return f"{token}account {self.who.account} ({self.who.role.value})"


def no_tenant(name: str) -> problems.Problem:
    """The same words, whether there is such a tenant or not."""
    return problems.missing(f"There is no tenant {name!r} that you may see.")


def source_of(request: Request) -> str:
    """The address that a request is from, as the server knows it."""
    return request.client.host if request.client is not None else ""


def actor(name: str, request: Request) -> Actor:
    """Who the audit log has, and from where."""
    return Actor(name, f"console from {source_of(request)}")


def find(request: Request, parts: Parts) -> Visit | None:
    """Who asks; None: nobody who is known. Blocks: it looks into the store.

    What a page asks by itself (``polls``) puts off no session's end.

    A request with an ``Authorization`` field is judged by that alone: a browser sends a cookie whether asked or not.
    """
    now, source = parts.clock(), source_of(request)
    if (given := request.headers.get("authorization")) is not None:
        scheme, _, token = given.partition(" ")
        who = api_tokens.authenticate(parts.inst, token.strip(), now) if scheme.lower() == "bearer" else None
        if who is None:
            return None
        mine = Actor(f"{who.account} (token {who.token})", f"API from {source}")
        return Visit(parts.inst.acting(mine), who, now, source)
    token = request.cookies.get(COOKIE, "")
    signed_in = sessions.find(parts.inst, token, now, used=not polls(request))
    if signed_in is None:
        return None
    inst = parts.inst.acting(actor(signed_in.account.name, request))
    return Visit(inst, signed_in.principal, now, source, signed_in, token)


def polls(request: Request) -> bool:
    """Whether the page asks by itself, again and again, and nobody has done anything."""
    return MEDIA_TYPE in request.headers.get("accept", "") or request.headers.get("hx-trigger-name") == "poll"


def known(request: Request) -> Visit:
    """Whoever asks, and a change is meant by him. Raises Problem, also where he has something else to do first."""
    visit = arrived(request)
    if visit.due is not None:
        raise problems.due(visit.due, visit.who.account)
    return visit


def arrived(request: Request) -> Visit:
    """The same, with something to do first or not: for what that is, and for nothing else. Raises Problem."""
    visit: Visit | None = getattr(request.state, "visit", None)
    if visit is None:
        visit = find(request, parts_of(request))
        if visit is None:
            raise problems.unauthorized()
        request.state.visit = visit
        request.state.account = visit.who.account if visit.who.token is None else f"token {visit.who.token}"
    if request.method not in SAFE:
        refuse_forged(request, visit)
        if (generation := generation_of(request.headers.get("if-match"))) is not None:
            return _replaced(visit, visit.inst.having_seen(generation))
    return visit


def refuse_forged(request: Request, visit: Visit) -> None:
    """Raise Problem where a change is not meant by whoever is signed in: another site has sent it with his cookie."""
    if visit.signed_in is None or visit.token is None:
        return
    given = request.headers.get(CSRF_HEADER, "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none") or not sessions.is_csrf(visit.token, given):
        raise problems.Problem(
            HTTPStatus.FORBIDDEN,
            "csrf",
            f"A change over a session needs its CSRF token in the field {CSRF_HEADER}; load the page again.",
        )


def _replaced(visit: Visit, inst: Installation) -> Visit:
    return Visit(inst, visit.who, visit.now, visit.source, visit.signed_in, visit.token)


Known = Annotated[Visit, Depends(known)]
"""Anybody who is signed in and has nothing else to do first, or an API token."""


def _for_tenant(action: Action) -> Callable[[str, Visit], Visit]:
    def allowed(tenant: str, visit: Known) -> Visit:
        visit.need(action, tenant)
        return visit

    return allowed


def _for_all(action: Action) -> Callable[[Visit], Visit]:
    def allowed(visit: Known) -> Visit:
        visit.need(action, None)
        return visit

    return allowed


def _somewhere(action: Action) -> Callable[[Visit], Visit]:
    def allowed(visit: Known) -> Visit:
        visit.need_somewhere(action)
        return visit

    return allowed


def for_tenant(action: Action) -> Dependency:
    """A dependency: who asks may do that with the tenant of the path's ``{tenant}``."""
    found: Dependency = Depends(_for_tenant(action))
    return found


def for_all(action: Action) -> Dependency:
    """A dependency: who asks may do that with the installation as a whole."""
    found: Dependency = Depends(_for_all(action))
    return found


def somewhere(action: Action) -> Dependency:
    """A dependency: there is something with which who asks may do that. With what, is asked by the route itself."""
    found: Dependency = Depends(_somewhere(action))
    return found


Viewing = Annotated[Visit, for_tenant(Action.VIEW)]
Changing = Annotated[Visit, for_tenant(Action.CHANGE)]
