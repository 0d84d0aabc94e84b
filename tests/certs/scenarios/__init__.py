"""Servers, good and bad, and the defects that must be found in each: one function a case, its name says the case."""

from tests.certs.scenarios import form, good, limits, strength, trust
from tests.certs.scenarios.base import HOST, SCENARIOS, Scenario, Server, issuing, root

__all__ = ["HOST", "SCENARIOS", "Scenario", "Server", "form", "good", "issuing", "limits", "root", "strength", "trust"]
