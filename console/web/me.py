"""One's own account: password, second factor, sessions and tokens."""

from __future__ import annotations

import json
from typing import Annotated, Any

import segno
from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from console import people, problems
from console.parts import parts_of
from console.visit import Visit
from console.web.accounts import Number
from console.web.forms import Text, Texts, again
from console.web.pages import done, go, is_htmx, page_with, pages_of, render
from console.web.sign_in import keep_token
from console.web.tokens import TokenName, fields, make
from control import accounts, api_tokens, due, second_factor, sessions, sign_in
from control.authorisation import Role
from control.due import Due
from control.errors import Refused
from control.passwords import SHORTEST
from control.sessions import SignedIn
from control.shown import accounts as shown

router = APIRouter()


Own = Annotated[Visit, page_with()]
ChangingPassword = Annotated[Visit, page_with(Due.PASSWORD)]
SettingUp = Annotated[Visit, page_with(Due.SECOND_FACTOR)]
Whatever = Annotated[Visit, page_with(*Due)]


@router.get("/me")
def page(request: Request, visit: Own) -> Response:
    """Who is signed in."""
    details = accounts.show(visit.inst, visit.who.account, visit.now)
    context = {
        "details": details,
        "one": details.account,
        "tenants_text": shown.tenants(details.account),
        "current": _session(visit).session.id,
        "status_of": lambda one: shown.token_status(one, visit.now),
        "token_tenants": shown.token_tenants,
        "required": due.second_factor_required(visit.inst.settings),
        "nag": details.account.role == Role.OWNER and not details.account.second_factor,
        "shortest": SHORTEST,
        "error": "",
    }
    return render(request, "me.html", context, visit=visit, here="me")


@router.get("/me/first")
def first(request: Request, visit: Whatever) -> Response:
    """What is to be done before anything else: a password of one's own, or a second factor."""
    if visit.due is None:
        return go(request, "/")
    signed_in = _session(visit)
    context = {
        **_factor(visit),
        "due": visit.due.value,
        "until": due.given_until(signed_in.account),
        "over": due.given_over(signed_in.account, visit.now),
        "csrf": signed_in.csrf,
        "flashes": parts_of(request).flashes.take(signed_in.session.id),
        "shortest": SHORTEST,
        "error": "",
    }
    return render(request, "first.html", context)


@router.post("/me/password")
def set_password(
    request: Request, visit: ChangingPassword, current: Text = "", password: Text = "", repeated: Text = ""
) -> Response:
    """Another password: the other sessions end, and this one gets another token."""
    hashing = parts_of(request).hashing
    try:
        if password != repeated:
            raise Refused("the two new passwords differ; type the same one twice")
        _reauthenticate(request, visit, current)
        own = _session(visit).session.id
        accounts.change_password(visit.inst, visit.who.account, password, visit.now, hashing, but=own)
    except problems.EXPECTED as error:
        return again(request, error, "me_password.html", {"one": _session(visit).account, "shortest": SHORTEST})
    next = "/me" if visit.due is None else "/"
    response = done(request, visit, next, "Your password is changed. Your other sessions have ended.")
    _rotate(request, visit, response)
    return response


@router.post("/me/second-factor")
def begin(request: Request, visit: SettingUp, current: Text = "") -> Response:
    """Show the secret for an authenticator app. It counts once a code of it was entered."""
    try:
        _reauthenticate(request, visit, current)
        enrolment = second_factor.begin(visit.inst, visit.who.account, visit.now)
    except problems.EXPECTED as error:
        return again(request, error, "me_second_factor.html", _factor(visit))
    code = segno.make(enrolment.uri, error="m", micro=False)
    context = {
        # Of our own making: shapes, and nothing of what was encoded.
        "qr": Markup(code.svg_inline(scale=4, border=3, dark="#000", light="#fff")),  # noqa: S704
        "secret": " ".join(enrolment.secret[place : place + 4] for place in range(0, len(enrolment.secret), 4)),
        "error": "",
    }
    return render(request, "me_enrol.html", context)


@router.post("/me/second-factor/confirm")
def confirm(request: Request, visit: SettingUp, code: Text = "") -> Response:
    """Have the secret count, and show the recovery codes once. The other sessions end."""
    name, own = visit.who.account, _session(visit).session.id
    try:
        codes = sign_in.confirm_second_factor(visit.inst, name, code, visit.source, visit.now, but=own)
    except problems.EXPECTED as error:
        return again(request, error, "me_confirm.html", {})
    context = {"codes": codes, "account": name, "next": "/me" if visit.due is None else "/"}
    response = render(request, "me_recovery_codes.html", context)
    fresh = _rotate(request, visit, response)
    # The page stays: its changes are to carry the new token's CSRF token.
    response.headers.update({"HX-Retarget": "#enrol", "HX-Reswap": "innerHTML"})  # QR code and secret go
    response.headers["HX-Trigger"] = json.dumps({"signed-in": {"csrf": sessions.csrf(fresh)}})
    return response


@router.get("/me/second-factor/remove")
def ask_remove(request: Request, visit: Own) -> Response:
    """Ask for the password before it goes."""
    if not is_htmx(request):
        return go(request, "/me")
    return render(request, "me_remove_factor.html", {"account": visit.who.account, "error": ""})


@router.post("/me/second-factor/remove")
def remove(request: Request, visit: Own, current: Text = "") -> Response:
    """Take it away."""
    try:
        _reauthenticate(request, visit, current)
        second_factor.remove(visit.inst, visit.who.account, visit.now, but=_session(visit).session.id)
    except problems.EXPECTED as error:
        return again(request, error, "me_remove_factor.html", {"account": visit.who.account})
    response = done(
        request, visit, "/me", "Your second factor is removed. Your other sessions have ended.", level="note"
    )
    _rotate(request, visit, response)
    return response


@router.get("/me/sessions/revoke")
def ask_revoke_others(request: Request, visit: Own) -> Response:
    """Ask for the password before they end."""
    return _asked_revoke(request, visit, None)


@router.post("/me/sessions/revoke")
def revoke_others(request: Request, visit: Own, current: Text = "") -> Response:
    """End one's other sessions."""
    try:
        _reauthenticate(request, visit, current)
    except problems.EXPECTED as error:
        return again(request, error, "me_sessions_revoke.html", _revoke_form(visit, None))
    ended = sessions.revoke_all(visit.inst, visit.who.account, visit.now, _session(visit).session.id)
    return done(request, visit, "/me", f"{ended} other session{'' if ended == 1 else 's'} of yours ended.")


@router.get("/me/sessions/{id}/revoke")
def ask_revoke(id: Number, request: Request, visit: Own) -> Response:
    """Ask for the password before it ends."""
    return _asked_revoke(request, visit, id)


@router.post("/me/sessions/{id}/revoke")
def revoke_session(id: Number, request: Request, visit: Own, current: Text = "") -> Response:
    """End one of one's sessions. For this very one no password is asked: it is no more than signing out."""
    this = id == _session(visit).session.id
    if not this:
        try:
            _reauthenticate(request, visit, current)
        except problems.EXPECTED as error:
            return again(request, error, "me_sessions_revoke.html", _revoke_form(visit, id))
    sessions.revoke(visit.inst, visit.who.account, id, visit.now)
    if this:
        pages_of(parts_of(request)).forget(request)
        return go(request, "/sign-in")
    return done(request, visit, "/me", "That session has ended.")


@router.get("/me/tokens/new")
def new_token(request: Request, visit: Own) -> Response:
    """Ask for what a token is to be."""
    if not is_htmx(request):
        return go(request, "/me")
    return render(request, "me_token_new.html", _token_form(visit) | {"error": ""})


@router.post("/me/tokens")
def create_token(
    request: Request,
    visit: Own,
    name: Text = "",
    scope: Text = "",
    tenant: Texts = [],  # noqa: B006 - FastAPI copies it
    ends: Text = "90",
    date: Text = "",
) -> Response:
    """Make it, and show its text once."""
    context = _token_form(visit, name, scope, tenant, ends, date)
    return make(request, visit, visit.who.account, context, "me_token_new.html", "/me")


@router.get("/me/tokens/revoke")
def ask_revoke_token(request: Request, visit: Own, name: TokenName = "") -> Response:
    """Ask whether it is to go for good."""
    found = people.own_token(visit, name)
    if not is_htmx(request):
        return go(request, "/me")
    return render(request, "token_revoke.html", {"one": found, "action": "/me/tokens/revoke"})


@router.post("/me/tokens/revoke")
def revoke_token(request: Request, visit: Own, name: Text = "") -> Response:
    """Revoke it."""
    people.own_token(visit, name)
    api_tokens.revoke(visit.inst, name, visit.now)
    return done(request, visit, "/me", f"Token {name} is revoked, from the next request on.")


def _session(visit: Visit) -> SignedIn:
    assert visit.signed_in is not None  # noqa: S101 - pages are for sessions
    return visit.signed_in


def _reauthenticate(request: Request, visit: Visit, password: str) -> None:
    """Make sure that it is still the same person. Raises Refused."""
    assert visit.token is not None  # noqa: S101 - pages are for sessions
    sign_in.reauthenticate(visit.inst, visit.token, password, visit.source, visit.now, parts_of(request).hashing)


def _rotate(request: Request, visit: Visit, response: Response) -> str:
    """Another token for this session, which the browser is to keep: what the session is worth has changed."""
    assert visit.token is not None  # noqa: S101 - pages are for sessions
    fresh = sessions.rotate(visit.inst, visit.token, visit.now)
    pages_of(parts_of(request)).forget(request)
    keep_token(response, fresh)
    return fresh


def _factor(visit: Visit) -> dict[str, Any]:
    details = accounts.show(visit.inst, visit.who.account, visit.now)
    required = due.second_factor_required(visit.inst.settings)
    return {"details": details, "one": details.account, "required": required}


def _asked_revoke(request: Request, visit: Visit, id: int | None) -> Response:
    if not is_htmx(request):
        return go(request, "/me")
    return render(request, "me_sessions_revoke.html", _revoke_form(visit, id) | {"error": ""})


def _revoke_form(visit: Visit, id: int | None) -> dict[str, Any]:
    """``id``: of the session that is to end; None: all others."""
    at = "/me/sessions/revoke" if id is None else f"/me/sessions/{id}/revoke"
    return {"at": at, "one": id is not None, "account": visit.who.account}


def _token_form(visit: Visit, *given: Any) -> dict[str, Any]:
    known = [one.name for one in visit.inst.tenants() if visit.sees(one.name)]
    return {"known": known, "may_write": visit.who.role is not Role.AUDITOR, **fields(*given)}
