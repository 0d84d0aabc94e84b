"""``/proxy.pac``: the PAC file, for devices that cannot reach the proxy's own page yet. Nobody has to sign in for it.

It says what devices are told anyway: where the listeners are, and what is gone to without them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from certs.names import InvalidHost, parse_authority
from config import pac
from config.settings import Listener, Settings, parse_bind
from console import problems
from console.parts import parts_of
from console.problems import Problem

router = APIRouter()


@router.get("/proxy.pac")
def file(request: Request, listener: Annotated[str, Query(max_length=100)] = "") -> Response:
    """The PAC file for the first listener that devices can be told of, or for the one of that name."""
    settings = parts_of(request).inst.settings
    told = [one for one in settings.listeners if one.mode in pac.SCHEMES and one.bind is not None]
    chosen = next((one for one in told if listener in ("", one.name)), None)
    if not settings.onboarding.enabled or chosen is None:
        raise problems.missing("There is no such listener that a PAC file can name.")
    address = reached_at(settings, chosen, request.headers.get("host", ""))
    text = pac.pac(pac.named(chosen.mode, address), settings.onboarding.name, settings.onboarding.direct)
    return Response(text, media_type=pac.MEDIA_TYPE)


def reached_at(settings: Settings, listener: Listener, host: str) -> str:
    """HOST:PORT of a listener as devices reach it: as the settings say, or its own address.

    Where that is all addresses of the machine, it is the ``host`` at which the console was asked. Raises Problem.
    """
    if (told := settings.onboarding.addresses.get(listener.name)) is not None:
        return told
    assert listener.bind is not None  # noqa: S101 - others are not offered
    address, port = parse_bind(listener.bind)
    if listener.mode == "explicit-tls" and listener.tls.names:
        address = listener.tls.names[0]
    elif address in ("0.0.0.0", "::"):  # noqa: S104 - told apart, not bound
        try:
            address = parse_authority(host, 443)[0].text
        except InvalidHost as error:
            raise Problem(HTTPStatus.BAD_REQUEST, "invalid", f"The field Host cannot be read: {error}") from None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
