"""Sets, adds, removes and requires headers by host, from a YAML file (docs/shipped-inspectors.md).

    mitmdump -s addons/header_policy.py --set header_policy_file=/etc/sallyport/headers.yaml

Its common use are tenant restrictions: a header on requests to a login service that says whose accounts may be used.
Only heads are looked at; bodies keep streaming.
"""

from __future__ import annotations

from mitmproxy import ctx, http
from mitmproxy.addonmanager import Loader

from addons import option_files
from addons.header_rule_file import parse
from addons.header_rules import Direction, Rule
from addons.refusing import REFUSED, refuse, refuse_unreadable
from addons.requested_hosts import hosts_of
from certs.host_patterns import HostIndex
from certs.names import Host, InvalidHost
from config.document import LARGEST_FILE
from config.problems import ConfigError

UNREAD = "The proxy could not read its rules for headers, so it cannot tell what this request needs."


class HeaderPolicy:
    """The rules are read when the option is set and kept by host and direction."""

    def __init__(self) -> None:
        self._rules: dict[Direction, HostIndex[list[tuple[int, Rule]]]] | None = None

    def load(self, loader: Loader) -> None:
        """Define the option."""
        loader.add_option("header_policy_file", str, "", "YAML file with the rules for headers.")

    def configure(self, updated: set[str]) -> None:
        """Read the file. Raises OptionsError with all that is wrong with it; then what was read before still counts."""
        if "header_policy_file" not in updated:
            return
        file, data = option_files.read("header_policy_file", ctx.options.header_policy_file, LARGEST_FILE)
        try:
            rules = parse(file, data)
        except ConfigError as error:
            raise option_files.refused(file, error.problems) from None
        indexes: dict[Direction, HostIndex[list[tuple[int, Rule]]]] = {way: HostIndex(list) for way in Direction}
        for place, rule in enumerate(rules):
            for pattern in rule.hosts:
                indexes[rule.direction].at(pattern).append((place, rule))
        self._rules = indexes

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Refuse a request that lacks what it should have; change the fields of the others."""
        if flow.response is not None:
            return
        if self._rules is None:
            refuse(flow, "header_policy", "Blocked: the rules for headers could not be read", UNREAD, "")
            return
        try:
            hosts = hosts_of(flow)
        except InvalidHost as error:
            refuse_unreadable(flow, "header_policy", str(error))
            return
        rules = _find(self._rules[Direction.REQUEST], hosts)
        for rule in rules:
            if (name := rule.lacking(flow.request.headers.fields)) is not None:
                _refuse(flow, name, rule.text, hosts[0].text if hosts else "")
                return
        lower = flow.request.is_http2 or flow.request.is_http3
        for rule in rules:
            flow.request.headers.fields = rule.apply(flow.request.headers.fields, lower)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Change the fields of what the server answered; a refusal of the proxy's own stays as it is."""
        if flow.response is None or self._rules is None or REFUSED in flow.metadata:
            return
        lower = flow.request.is_http2 or flow.request.is_http3
        for rule in _find(self._rules[Direction.RESPONSE], hosts_of(flow)):
            flow.response.headers.fields = rule.apply(flow.response.headers.fields, lower)


def _find(index: HostIndex[list[tuple[int, Rule]]], hosts: list[Host]) -> list[Rule]:
    """The rules for any of the hosts, each once, in the order of the file."""
    found = {place: rule for host in hosts for listed in index.find(host) for place, rule in listed}
    return [found[place] for place in sorted(found)]


def _refuse(flow: http.HTTPFlow, name: str, text: str, host: str) -> None:
    explanation = (
        f"Requests to {host} need the header {name} with a value that your organisation allows, and this one does not "
        "have it, so nothing of it was sent to the server."
    )
    refuse(
        flow,
        "header_policy",
        "Blocked: the request lacks a header that is required here",
        f"{text} {explanation}".strip(),
        host,
    )


addons = [HeaderPolicy()]
