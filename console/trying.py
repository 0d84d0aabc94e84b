"""What a change would do to the last day's servers, for API and pages."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from config.common_store import StoreFileError
from console.problems import Problem
from console.visit import Visit
from control.installation import Installation
from control.recent_traffic import try_change
from control.trial import Trial


def try_it(visit: Visit, tenant: str, change: Callable[[Installation], object]) -> Trial:
    """Try the change; nothing is saved. Raises what it raises, and Problem where servers cannot be judged just now."""
    try:
        return try_change(visit.inst, tenant, change, visit.now)[1]
    except StoreFileError:
        # It names files of the machine; the daemon's log has it, and check-config.
        detail = "The common store of CAs cannot be read, so nothing can be tried; sallyport check-config says why."
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers={"Retry-After": "5"}) from None
