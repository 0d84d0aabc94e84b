"""mitmproxy's own help for tests of addons, imported in spite of what its dependencies warn of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

with warnings.catch_warnings():
    # mitmproxy.master imports its LDAP login, whose library uses names that its ASN.1 library deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from mitmproxy.test import taddons, tflow, tutils

__all__ = ["configured", "taddons", "tflow", "tutils"]


@contextmanager
def configured(addon: Any, **options: str | int) -> Iterator[Any]:
    """mitmproxy with one addon that was loaded and configured as a script at the start is. Gives the context.

    Raises what the addon's ``configure`` raises. (taddons sets options of an addon that runs already: after an error it
    sets the old ones again, and what that raises hides the error.)
    """
    with taddons.context() as context:
        context.options.set(*(f"{name}={value}" for name, value in options.items()), defer=True)
        context.master.addons.add(addon)
        addon.configure(set(context.options.keys()))
        yield context
