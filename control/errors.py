"""What the use cases say no with."""

from __future__ import annotations

from certs.bundle import Bundle, BundleFinding


class Refused(Exception):  # noqa: N818 - the name that the parts agreed on
    """What was asked for is not done, and nothing is changed. The text is one line for the administrator.

    ``findings`` holds all that was found where an upload is refused.
    """

    def __init__(self, message: str, findings: tuple[BundleFinding, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings


class Missing(Refused):
    """What was asked for is not there."""


class Taken(Refused):
    """There is something of that name, or of that key, already."""


class Outdated(Refused):
    """Somebody else changed the same thing after the one who asks had last looked. The text says what was changed."""


def refuse_errors(name: str, bundle: Bundle) -> None:
    """Raise Refused, with all that was found, where an upload that is to have this name has an error."""
    if not bundle.ok:
        errors = [finding.message for finding in bundle.findings if finding.level == "error"]
        raise Refused(f"{name}: {'; '.join(errors)}", bundle.findings)


class InstallationError(Exception):
    """The state directory cannot be used, and nothing in it is changed. One line: what is wrong, where, what to do.

    ``passing``: it is not set up wrongly, but locked or full just now.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
