"""The operator's settings as frozen models, one class per section of the YAML file.

Nothing here reads a file or the environment: that is :mod:`config.loader`. Times are seconds, sizes are bytes.
What a later version brings is refused here by name, so that nobody believes it to be on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    model_validator,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

Mode = Literal["explicit", "explicit-tls", "transparent", "tproxy", "socks5", "wireguard"]
TRANSPARENT = frozenset({"transparent", "tproxy"})
"""Modes whose connections a gateway sends here, of clients that know of no proxy."""
LATER_KMS = ("aws", "vault", "pkcs11")
LATER_DATABASES = ("postgresql", "postgres")

TENANT_NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
SHIPPED_INSPECTORS = ("archive", "block_url", "header_policy", "icap", "strip_alt_svc", "strip_https_records")
"""Values of ``script`` that are no file: what stands in the package ``addons``."""

SECRET_FIELDS = frozenset(
    {
        "authorization", "proxy-authorization", "cookie", "set-cookie", "cookie2", "set-cookie2", "authentication-info",
        "proxy-authentication-info", "x-api-key", "api-key", "apikey", "x-auth-token", "x-access-token", "x-csrf-token",
        "x-xsrf-token", "x-amz-security-token", "x-vault-token", "private-token", "cf-access-jwt-assertion",
    }
)  # fmt: skip
"""Header fields that carry credentials: they are never logged."""

DIRECT = "direct"
"""The value of ``upstream.proxies[].address`` that is no proxy."""

LOCAL_NAMES = "<local>"
"""The entry of ``onboarding.direct`` for names without a dot."""
LOCAL = (
    LOCAL_NAMES, ".local", ".localhost", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10",
)  # fmt: skip
"""What a device reaches without us by default: names of its own network (RFC 6762, RFC 6761), private addresses
(RFC 1918, RFC 4193), loopback and link-local ones (RFC 1122, RFC 3927, RFC 4291)."""

STORES_BY_NAME = ("certifi", "system")
"""The values of ``trust.common_store`` that are no file."""


class NotYetError(ValueError):
    """The setting asks for a part that this version does not have."""


def parse_bind(text: str) -> tuple[str, int]:
    """Split ``host:port`` (``[::1]:8080`` for IPv6) into an IP address and a port from 0 to 65535.

    Port 0 lets the system choose one. Raises ValueError with what was expected.
    """
    host, colon, port = text.rpartition(":")
    # The length goes first: int() of a text of thousands of digits raises an error of its own.
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"expected ADDRESS:PORT, as in 127.0.0.1:8080 or [::1]:8080, got {text!r}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"expected an IPv6 address in brackets, as in [::1]:8080, got {text!r}")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        raise ValueError(f"expected an IP address before the port, as in 127.0.0.1:8080, got {host!r}") from None


def listener_clashes(
    listeners: Sequence[tuple[str | None, str | None]], udp: Collection[int] = (), own: Sequence[str] = ()
) -> Iterator[tuple[int, str, str]]:
    """What makes listeners, given as (name, bind), impossible together: (position, key, message) for the later one.

    None stands for a value that is wrong by itself and was reported as such, or for no name. ``udp``: positions of
    those that listen there and not on TCP. ``own``: the last ones are no listeners, but these sections.
    """
    count = len(listeners) - len(own)

    def called(position: int) -> str:
        return f"listeners[{position}]" if position < count else f"{own[position - count]}.bind"

    names: dict[str, int] = {}
    places: list[tuple[int, Address, int]] = []
    for position, (name, bind) in enumerate(listeners):
        if name is not None and names.setdefault(name, position) != position:
            yield position, "name", f"{name!r} is the name of listeners[{names[name]}] too; expected a name of its own"
        if bind is None:
            continue
        host, port = parse_bind(bind)
        address = ipaddress.ip_address(host)
        for other, taken, its_port in places:
            # An address given twice, or one beside "all addresses" of its family, can't be bound a second time.
            same = address.version == taken.version and (
                address == taken or address.is_unspecified or taken.is_unspecified
            )
            if port and port == its_port and same and (position in udp) == (other in udp):
                yield (
                    position,
                    "bind",
                    f"{bind} is taken by {called(other)}; expected an address and port of its own",
                )
                break
        places.append((position, address, port))


def unknown_listeners(listeners: Sequence[str | None], asked: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Of names that are to be listeners', those that are none's, each with what was expected."""
    known = [name for name in listeners if name is not None]
    for name in asked:
        if name not in known:
            yield name, f"no listener has this name; expected {' or '.join(known) or 'the name of a listener'}"


def _bind(value: str) -> str:
    parse_bind(value)
    return value


def _kms(value: Any) -> Any:
    if value in LATER_KMS:
        raise NotYetError(f"KMS provider {value} is not in this version; expected local")
    return value


def _network(value: Any) -> Any:
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f"expected a CIDR such as 10.0.0.0/8, got {value!r}")  # noqa: TRY004 - pydantic wants ValueError
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"expected a CIDR such as 10.0.0.0/8: {error}") from None


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise ValueError(f"expected an IP address, got {value!r}") from None
    return value


def _database(value: Any) -> Any:
    # The value is never repeated: a database address may hold a password.
    if isinstance(value, str) and value.startswith(LATER_DATABASES):
        raise NotYetError("PostgreSQL is not in this version; expected null (SQLite in state_dir)")
    if value is not None:
        raise ValueError("expected null (SQLite in state_dir)")
    return value


def _off(value: Any) -> Any:
    return "off" if value is False else value  # what YAML makes of it without quotes


def _file_name(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip() or value.startswith("~")):
        # A folder named "~" beside the configuration would be a surprise, and whose home would it be?
        raise ValueError(f"expected a path, absolute or relative (~ is not expanded), got {value!r}")
    return value


def _some(value: tuple[Listener, ...]) -> tuple[Listener, ...]:
    if not value:
        raise ValueError("expected at least one listener")
    return value


def _script(value: Any) -> Any:
    """An inspector that is written as its script alone."""
    return {"script": value} if isinstance(value, str) else value


def _list_file(value: Any) -> Any:
    """A list file that is written as its path alone."""
    return {"file": value} if isinstance(value, str) else value


def _pattern(value: str) -> str:
    name = value.removeprefix("*.").removeprefix(".")
    if value != "*" and (not name or "*" in name or not name.isprintable() or set(" /@#?\\%") & set(name)):
        raise ValueError(
            f"expected *, *.example.com (what is below it), .example.com or a host's name or address, got {value!r}"
        )
    return value


def _logged_field(value: str) -> str:
    name = value.lower()
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}", name):  # a token (RFC 9110, section 5.6.2)
        raise ValueError(f"expected a header field's name, such as user-agent, got {value!r}")
    if name in SECRET_FIELDS:
        raise ValueError(f"{value} carries credentials, which are never logged; take it out of the list")
    return name


def _own_name(value: str) -> str:
    name = value.lower()
    label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    if len(name) > 253 or not re.fullmatch(rf"(?:{label}\.)+(?=.*[a-z]){label}", name):
        raise ValueError(f"expected a host name with a dot in it, as in sallyport.local, got {value!r}")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        raise ValueError(f"{value!r} ends in a number, so that it is read as an address; expected a host name")
    return name


def _place(value: str) -> str:
    host, _, port = value.rpartition(":")
    right = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65_535
    if not right or not re.fullmatch(r"\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
        raise ValueError(f"expected HOST:PORT, as in proxy.example:8080 or [2001:db8::1]:8080, got {value!r}")
    return value


def _direct(value: str) -> str:
    if value == LOCAL_NAMES:
        return value
    if value == "*":
        raise ValueError("* is every host, which would then go past the proxy; expected hosts of the local network")
    if "/" in value:
        return str(_network(value))
    if not _pattern(value).isascii():
        raise ValueError(f"expected ASCII (for a name in another script, its xn-- form), got {value!r}")
    return value.lower()


def _never_logged(value: str) -> str:
    if value == "*":
        raise ValueError("* is every host; to log no requests, set log.requests to false")
    return _pattern(value)


def _collector(value: str) -> str:
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0 or not value.isprintable() or " " in value:
        raise ValueError("expected an http or https URL, as in http://127.0.0.1:4318/v1/traces")
    if "@" in url.netloc or url.query or url.fragment:
        # The value is not repeated: what stands there may be a password.
        raise ValueError("expected a URL without a user, a query and a fragment; OTEL_EXPORTER_OTLP_HEADERS takes keys")
    return value


def _parent(value: str) -> str:
    host, colon, port = value.rpartition(":")
    right = bool(colon and host) and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535
    if value != DIRECT and (not right or not host.isprintable() or set(" /@#?\\%*") & set(host)):
        # The value is not repeated: what stands before an @ may be a password.
        raise ValueError("expected direct, or HOST:PORT of a proxy, as in proxy.example:3128, without user and scheme")
    return value


def _tenant_pattern(value: str) -> str:
    if value != "*" and not re.fullmatch(TENANT_NAME, value):
        raise ValueError(f"expected * or a tenant's name, got {value!r}")
    return value


def _user(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", value):
        raise ValueError(f"expected null or the name of a user of this machine, got {value!r}")
    return value


def _contact(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("expected one line of plain text, as in IT help desk, ext. 4711")
    return value.strip()


def _realm(value: str) -> str:
    if not re.fullmatch(r"[ !#-\[\]-~]{1,64}", value):  # a quoted-string (RFC 9110, section 5.6.4) without escapes
        raise ValueError("expected 1 to 64 printable ASCII characters, without quotes and backslashes")
    return value


def _endpoint(value: str) -> str:
    found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252})(?::([0-9]{1,5}))?", value)
    if found is None or (found[1] is not None and not 0 < int(found[1]) < 65_536):
        raise ValueError(f"expected HOST or HOST:PORT, as in vpn.example.com:51820, got {value!r}")
    return value


def _tunnel_network(value: Network) -> Network:
    if value.max_prefixlen - value.prefixlen < 2:
        raise ValueError(f"{value} has no room for peers; expected a network of at least four addresses")
    return value


def _public_url(value: str) -> str:
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    plain = "@" not in url.netloc and not url.query and not url.fragment and url.path in ("", "/")
    if url.scheme != "https" or not url.hostname or port == 0 or not plain or not value.isprintable() or " " in value:
        raise ValueError("expected an https URL without user, path and query, as in https://console.example.com")
    return value.rstrip("/")


# The descriptions are what config.wording says was expected.
Bind = Annotated[str, AfterValidator(_bind), Field(description="ADDRESS:PORT, as in 127.0.0.1:8080 or [::1]:8080")]
# A plain validator: pydantic's own check of a network would refuse, in JSON, the object that ours made of the text.
Cidr = Annotated[
    Network,
    PlainValidator(_network),
    PlainSerializer(str, return_type=str, when_used="json"),
    Field(description="a CIDR such as 10.0.0.0/8"),
]
FileName = Annotated[str, BeforeValidator(_file_name)]
Port = Annotated[int, Field(ge=1, le=65_535, description="a port from 1 to 65535")]
HostAddress = Annotated[str, AfterValidator(_address), Field(description="an IP address")]
Seconds = Annotated[
    float, Field(gt=0, le=86_400, description="a number of seconds above 0 and not above 86400 (one day)")
]
PerSecond = Annotated[int, Field(ge=1, le=100_000, description="a whole number from 1 to 100000, for each second")]
Count = Annotated[int, Field(ge=1, le=100_000_000)]
LeafSeconds = Annotated[
    int, Field(ge=3600, le=7 * 86_400, description="a whole number of seconds from 3600 (an hour) to 604800 (7 days)")
]
Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
        description="a name of 1 to 63 letters, digits, dots, hyphens and underscores",
    ),
]
TenantName = Annotated[
    str,
    Field(
        pattern=TENANT_NAME,
        description="a tenant's name: 1 to 63 lower-case letters, digits and hyphens",
    ),
]
HostPattern = Annotated[
    str, AfterValidator(_pattern), Field(description="*, *.example.com, .example.com or a host's name or address")
]
NeverLogged = Annotated[
    str, AfterValidator(_never_logged), Field(description="*.example.com, .example.com or a host's name or address")
]
LoggedField = Annotated[
    str, AfterValidator(_logged_field), Field(description="a header field's name, such as user-agent")
]
LoggedFields = Annotated[tuple[LoggedField, ...], Field(max_length=16, description="a list of up to 16 header fields")]
Collector = Annotated[
    str, AfterValidator(_collector), Field(description="an http or https URL, as in http://127.0.0.1:4318/v1/traces")
]
Contact = Annotated[
    str, Field(max_length=200, description="one line of plain text of up to 200 characters"), AfterValidator(_contact)
]
LinesPerSecond = Annotated[int, Field(ge=1, le=1_000_000)]
ParentAddress = Annotated[
    str, AfterValidator(_parent), Field(description="direct, or HOST:PORT of a proxy, as in proxy.example:3128")
]
OwnName = Annotated[
    str, AfterValidator(_own_name), Field(description="a host name with a dot in it, as in sallyport.local")
]
Place = Annotated[str, AfterValidator(_place), Field(description="HOST:PORT, as in proxy.example:8080")]
GoneToDirectly = Annotated[
    str,
    AfterValidator(_direct),
    Field(description="<local>, *.example.com, .example.com, a host's name or address, or a CIDR"),
]
TenantPattern = Annotated[str, AfterValidator(_tenant_pattern), Field(description="* or a tenant's name")]


def _tls_version(value: object) -> object:
    """YAML reads 1.2 as a number."""
    return f"{value:.1f}" if isinstance(value, float) else value


class Section(BaseModel):
    """What every section shares: unknown keys are errors, values are taken as written, nothing changes later."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ClientCa(Section):
    """A CA that may vouch for clients of a TLS proxy, and whose they then are."""

    file: FileName
    tenant: TenantName | None = None


class TenantNetwork(Section):
    """A network whose clients are a tenant's."""

    network: Cidr
    tenant: TenantName


class Htpasswd(Section):
    """A file of a tenant's users; the tenant can be left out where there is only one."""

    file: FileName
    tenant: TenantName | None = None


class Authentication(Section):
    """Clients say by proxy credentials whose they are."""

    tenants: Annotated[tuple[TenantName, ...], Field(min_length=1, max_length=1000)] = Field(strict=False)
    htpasswd: Annotated[
        tuple[Annotated[Htpasswd, BeforeValidator(_list_file)], ...],
        Field(max_length=100, description="a list of up to 100 files"),
    ] = Field(default=(), strict=False)
    clear_text: bool = False
    realm: Annotated[str, AfterValidator(_realm)] = "Sallyport"

    @model_validator(mode="after")
    def _each_once(self) -> Authentication:
        if twice := sorted({name for name in self.tenants if self.tenants.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} stands in tenants twice; expected each tenant once")
        for entry in self.htpasswd:
            if entry.tenant is None and len(self.tenants) > 1:
                raise ValueError(f"htpasswd: whose users are in {entry.file}? expected file and tenant")
            if entry.tenant is not None and entry.tenant not in self.tenants:
                expected = ", ".join(self.tenants)
                raise ValueError(f"htpasswd: {entry.tenant} is none of tenants; expected one of {expected}")
        return self

    def files(self, tenant: str) -> tuple[str, ...]:
        """The files of the tenant's users."""
        return tuple(entry.file for entry in self.htpasswd if (entry.tenant or self.tenants[0]) == tenant)


class ListenerTls(Section):
    """What a proxy that is reached over TLS shows its clients, and what it wants to see of them."""

    names: tuple[str, ...] = Field(default=(), strict=False)
    certificate: FileName | None = None
    key: FileName | None = None
    client_certificates: Literal["none", "optional", "required"] = "none"
    client_cas: tuple[ClientCa, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _fits(self) -> ListenerTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; expected both or neither")
        if (self.client_certificates == "none") != (not self.client_cas):
            raise ValueError("client_certificates and client_cas go together; expected both or neither")
        if self.client_cas and self.certificate is None:
            raise ValueError("a proxy that asks for certificates has one of its own; expected certificate and key")
        return self


TAKE_CREDENTIALS = frozenset({"explicit", "explicit-tls", "socks5"})
"""Modes whose clients can say who they are."""


class Listener(Section):
    """One listening port, and the tenants that its connections belong to."""

    name: Name
    mode: Mode = "explicit"
    bind: Bind
    tenant: TenantName | None = "default"
    networks: Annotated[
        tuple[TenantNetwork, ...], Field(max_length=10_000, description="a list of networks and their tenants")
    ] = Field(default=(), strict=False)
    authentication: Authentication | None = None
    tls: ListenerTls = ListenerTls()
    proxy_protocol: tuple[Cidr, ...] = Field(default=(), strict=False)

    @model_validator(mode="before")
    @classmethod
    def _nobodys(cls, data: Any) -> Any:
        # Whoever tells tenants apart otherwise does not expect that everybody else is the default one's.
        apart = isinstance(data, dict) and (data.get("networks") or data.get("authentication"))
        return {"tenant": None} | data if apart else data

    @model_validator(mode="after")
    def _somebodys(self) -> Listener:
        if not self.tenants:
            raise ValueError("no connection could belong to a tenant; expected tenant, networks or authentication")
        if self.authentication is not None and self.mode not in TAKE_CREDENTIALS:
            raise ValueError(f"clients of mode {self.mode} have no credentials; expected authentication: null")
        seen: dict[Network, str] = {}
        for entry in self.networks:
            if seen.setdefault(entry.network, entry.tenant) != entry.tenant:
                raise ValueError(f"networks: {entry.network} has two tenants; expected one")
        return self

    @property
    def tenants(self) -> tuple[str, ...]:
        """All tenants that connections to this port may belong to, each once."""
        named = [] if self.tenant is None else [self.tenant]
        named += [entry.tenant for entry in self.networks]
        named += self.authentication.tenants if self.authentication is not None else ()
        named += [each.tenant for each in self.tls.client_cas if each.tenant is not None]
        return tuple(dict.fromkeys(named))

    @model_validator(mode="after")
    def _has_what_its_mode_takes(self) -> Listener:
        if self.mode == "explicit-tls" and not self.tls.names and self.tls.certificate is None:
            raise ValueError(
                "mode explicit-tls shows a certificate; expected tls.names, the names or addresses by which clients "
                "know this proxy, or tls.certificate and tls.key"
            )
        if self.mode == "explicit-tls" and self.tls.certificate is None and self.tenant is None:
            raise ValueError("of whose CA is the proxy's own leaf? expected tls.certificate and tls.key, or tenant")
        if self.mode != "explicit-tls" and self.tls != ListenerTls():
            raise ValueError("tls is for mode explicit-tls alone")
        if self.mode == "wireguard" and self.proxy_protocol:
            raise ValueError("proxy_protocol is of TCP, and mode wireguard is over UDP")
        if self.mode == "wireguard" and (self.tenant is None or self.networks):
            raise ValueError("whose a peer is says its listener; expected tenant, and no networks, in mode wireguard")
        return self


class Trust(Section):
    """Which common store a server's chain may end in, beside the tenant's own trusted CAs."""

    common_store: FileName = "certifi"


class Egress(Section):
    """Which addresses the proxy may connect to. ``deny`` wins over ``allow``."""

    allow: tuple[Cidr, ...] = Field(default=(), strict=False)
    deny: tuple[Cidr, ...] = Field(default=(), strict=False)


class Fetch(Section):
    """Where a certificate may make the proxy fetch from, over plain http."""

    ports: Annotated[tuple[Port, ...], Field(max_length=16, description="a list of up to 16 ports")] = Field(
        default=(80,), strict=False
    )
    private: tuple[Cidr, ...] = Field(default=(), strict=False)


class Verification(Section):
    """What is done to judge a server beside looking at what it has sent."""

    complete_chains: bool = True
    fetch: Fetch = Fetch()
    revocation: Annotated[Literal["off", "soft", "hard"], BeforeValidator(_off)] = "off"
    revocation_timeout: Annotated[float, Field(gt=0, le=30)] = 2.0
    ocsp: bool = True
    crl_directory: FileName | None = None
    largest_crl: Annotated[int, Field(ge=1 << 16, le=64 << 20)] = 20 << 20
    remember_servers: bool = True


class Resolver(Section):
    """Names that are answered before DNS is asked."""

    hosts: dict[str, HostAddress] = {}


class UpstreamProxy(Section):
    """A parent proxy and the hosts that are reached through it; ``address`` may say that they are reached without."""

    hosts: Annotated[tuple[HostPattern, ...], Field(min_length=1)] = Field(strict=False)
    tenants: tuple[TenantPattern, ...] = Field(default=("*",), strict=False)
    address: ParentAddress
    username: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    password_file: FileName | None = None
    tls: bool = False
    ca_file: FileName | None = None

    @model_validator(mode="after")
    def _together(self) -> UpstreamProxy:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file go together; expected both or neither")
        if self.username is not None and (":" in self.username or not self.username.isprintable()):
            raise ValueError("a username with a colon or a control character cannot be sent (RFC 7617, section 2)")
        if self.address == DIRECT and (self.username is not None or self.tls or self.ca_file is not None):
            raise ValueError("what is reached directly has no proxy to log in to; expected hosts, tenants and address")
        if self.ca_file is not None and not self.tls:
            raise ValueError("ca_file is for tls: true; expected both or no ca_file")
        return self


class Upstream(Section):
    """Which hosts are reached through another proxy, a parent; of several entries for a host the first counts."""

    proxies: Annotated[tuple[UpstreamProxy, ...], Field(max_length=100, description="a list of up to 100 proxies")] = (
        Field(default=(), strict=False)
    )
    allow: tuple[Cidr, ...] = Field(default=(), strict=False)


class Inspector(Section):
    """One mitmproxy addon script, whose traffic it sees, and what becomes of the traffic where it fails."""

    script: FileName
    hosts: tuple[HostPattern, ...] = Field(default=("*",), strict=False)
    tenants: tuple[TenantPattern, ...] = Field(default=("*",), strict=False)
    on_error: Literal["block", "pass"] = "block"
    timeout: Seconds = 5.0
    body: Literal["auto", "none", "request", "response", "both"] = "auto"


class Inspection(Section):
    """Inspectors, and the hosts whose traffic goes through the inspection lane."""

    addons: tuple[Annotated[Inspector, BeforeValidator(_script)], ...] = Field(default=(), strict=False)
    hosts: tuple[HostPattern, ...] = Field(default=("*",), strict=False)
    tenants: tuple[TenantPattern, ...] = Field(default=("*",), strict=False)
    options: dict[str, str | bool | int | float | list[str] | None] = {}
    body_limit: Annotated[int, Field(ge=0, le=1 << 30)] = 8 << 20
    body_memory: Annotated[int, Field(ge=1 << 20, le=1 << 36)] = 256 << 20
    on_large: Literal["block", "stream"] = "block"

    @model_validator(mode="after")
    def _each_once(self) -> Inspection:
        scripts = [inspector.script for inspector in self.addons]
        if twice := sorted({script for script in scripts if scripts.count(script) > 1}):
            raise ValueError(f"inspection.addons: {', '.join(twice)} stands there twice; expected each script once")
        return self


class BypassList(Section):
    """A file with a pattern a line: hosts whose TLS is not decrypted, for some tenants or all."""

    file: FileName
    tenants: tuple[TenantPattern, ...] = Field(default=("*",), strict=False)

    def is_for(self, tenant: str) -> bool:
        """Whether it counts for the tenant."""
        return "*" in self.tenants or tenant in self.tenants


class Bypass(Section):
    """List files of bypass rules, beside those that each tenant has of its own; and what becomes of pinned hosts."""

    files: Annotated[
        tuple[Annotated[BypassList, BeforeValidator(_list_file)], ...],
        Field(max_length=100, description="a list of up to 100 files"),
    ] = Field(default=(), strict=False)
    propose_after: Annotated[int, Field(ge=1, le=1000)] = 3
    learned_for: Annotated[float, Field(ge=60, le=366 * 86_400)] | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Bypass:
        files = [entry.file for entry in self.files]
        if twice := sorted({file for file in files if files.count(file) > 1}):
            raise ValueError(f"bypass.files: {', '.join(twice)} stands there twice; expected each file once")
        return self


class ConsoleTls(Section):
    """The console's own certificate, in PEM files; without them it is a leaf of its tenant's signing CA."""

    certificate: FileName | None = None
    key: FileName | None = None

    @model_validator(mode="after")
    def _fits(self) -> ConsoleTls:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; expected both or neither")
        return self


class Console(Section):
    """The web console and the REST API: where they listen, always over TLS, and by which names they are known."""

    enabled: bool = True
    bind: Bind = "127.0.0.1:9443"
    tenant: TenantName = "default"
    names: Annotated[tuple[str, ...], Field(max_length=16, description="a list of up to 16 names or addresses")] = (
        Field(default=(), strict=False)
    )
    tls: ConsoleTls = ConsoleTls()
    public_url: Annotated[str, AfterValidator(_public_url)] | None = None
    trusted_proxies: tuple[Cidr, ...] = Field(default=(), strict=False)
    breached_passwords: FileName | None = None
    second_factor: Literal["optional", "required"] = "optional"

    @property
    def own_leaf(self) -> bool:
        """Whether it shows a leaf of its tenant's signing CA, and no certificate of the operator's."""
        return self.enabled and self.tls.certificate is None

    @model_validator(mode="after")
    def _has_names(self) -> Console:
        everywhere = ipaddress.ip_address(parse_bind(self.bind)[0]).is_unspecified
        if everywhere and self.own_leaf and not self.names and self.public_url is None:
            raise ValueError(
                f"with bind {self.bind} it is reached by names and addresses that only you know; expected names or "
                "public_url, or tls.certificate and tls.key"
            )
        return self


class Metrics(Section):
    """Where /metrics, /healthz and /readyz are answered, in plain HTTP."""

    enabled: bool = True
    bind: Bind = "127.0.0.1:9090"


class Kms(Section):
    """Who wraps the tenants' keys."""

    provider: Annotated[Literal["local"], BeforeValidator(_kms)] = "local"


class Kmip(Section):
    """Key managers that keep a signing CA's key."""

    allow_private_addresses: bool = False
    timeout: Seconds = 5.0
    connections: Annotated[int, Field(ge=1, le=64)] = 4
    queue: Annotated[int, Field(ge=1, le=10_000)] = 256
    signatures_per_second: Annotated[int, Field(ge=1, le=10_000)] = 100
    source_address: HostAddress | None = None


class WireGuard(Section):
    """What peers of WireGuard listeners are told, which addresses they have, and what they may take."""

    endpoint: Annotated[str, AfterValidator(_endpoint)] | None = None
    network: Annotated[Cidr, AfterValidator(_tunnel_network)] = ipaddress.ip_network("10.113.0.0/16")
    network6: Annotated[Cidr, AfterValidator(_tunnel_network)] | None = ipaddress.ip_network("fd73:7077:67::/64")
    streams: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    streams_per_peer: Annotated[int, Field(ge=1, le=100_000)] = 500

    @model_validator(mode="after")
    def _families(self) -> WireGuard:
        if self.network.version != 4:
            raise ValueError("network is for IPv4; expected a CIDR such as 10.113.0.0/16")
        if self.network6 is not None and self.network6.version != 6:
            raise ValueError("network6 is for IPv6; expected a CIDR such as fd73:7077:67::/64, or null")
        return self


class Signing(Section):
    """How the built-in signing CA and the leaves are made."""

    built_in: Literal["ecdsa", "rsa"] = "ecdsa"
    csr_key: Literal["rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384"] = "rsa-2048"
    leaf_lifetime: LeafSeconds = 7 * 86_400
    leaf_key_lifetime: LeafSeconds = 3 * 86_400


class TlsServer(Section):
    """How TLS is spoken with some servers, where that is not as with the others."""

    hosts: Annotated[tuple[HostPattern, ...], Field(min_length=1)] = Field(strict=False)
    tenants: tuple[TenantPattern, ...] = Field(default=("*",), strict=False)
    minimum: Annotated[Literal["1.0", "1.1", "1.2", "1.3"] | None, BeforeValidator(_tls_version)] = None
    certificate: FileName | None = None
    key: FileName | None = None
    client_certificate: Literal["none", "block", "bypass"] | None = None

    @model_validator(mode="after")
    def _both(self) -> TlsServer:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together; expected both or neither")
        if "*" in self.hosts and (self.certificate is not None or self.minimum in ("1.0", "1.1")):
            raise ValueError(
                "old versions and client certificates are for hosts that are named; expected no * in hosts"
            )
        return self


class Tls(Section):
    """TLS on both sides: versions, and what becomes of servers that ask for a client certificate."""

    client_minimum: Annotated[Literal["1.2", "1.3"], BeforeValidator(_tls_version)] = "1.2"
    server_minimum: Annotated[Literal["1.2", "1.3"], BeforeValidator(_tls_version)] = "1.2"
    client_certificate: Literal["none", "block", "bypass"] = "none"
    servers: tuple[TlsServer, ...] = Field(default=(), strict=False)


class Tunnel(Section):
    """What to do with what is not intercepted HTTP, or not HTTP for the host that was asked for."""

    non_tls: Literal["refuse", "pass"] = "refuse"
    on_unparsed: Literal["close", "pass"] = "close"
    misdirected: Literal["refuse", "pass"] = "refuse"
    address_check: Annotated[Literal["off", "block"], BeforeValidator(_off)] = "off"


class BlockPage(Section):
    """What is said to people whose request is not served, beside why."""

    contact: Contact | None = None


class Onboarding(Section):
    """The proxy's own page for devices: the root certificate, a PAC file, and whether the device trusts the root."""

    enabled: bool = True
    host: OwnName = "sallyport.local"
    addresses: dict[Name, Place] = {}
    direct: Annotated[
        tuple[GoneToDirectly, ...], Field(max_length=1000, description="a list of up to 1000 hosts and CIDRs")
    ] = Field(default=LOCAL, strict=False)

    @property
    def name(self) -> str:
        """The host that is the proxy itself; "" where it is none."""
        return self.host if self.enabled else ""


class Privacy(Section):
    """What the log and traces tell of clients and their requests."""

    requests: bool = True
    client: Literal["full", "network", "none"] = "full"
    user: Literal["full", "none"] = "full"
    path: Literal["full", "none"] = "full"
    query: Literal["none", "names", "full"] = "none"
    request_headers: LoggedFields = Field(default=(), strict=False)
    response_headers: LoggedFields = Field(default=(), strict=False)


class TenantPrivacy(Section):
    """The same for one tenant; what is null is as in ``log.privacy``."""

    requests: bool | None = None
    client: Literal["full", "network", "none"] | None = None
    user: Literal["full", "none"] | None = None
    path: Literal["full", "none"] | None = None
    query: Literal["none", "names", "full"] | None = None
    request_headers: LoggedFields | None = Field(default=None, strict=False)
    response_headers: LoggedFields | None = Field(default=None, strict=False)


class Log(Section):
    """Where the log goes (JSON lines), how much of it, and what is kept out of it."""

    file: FileName | None = None
    level: Literal["debug", "info", "warning", "error"] = "info"
    requests: bool = True
    sample_above: LinesPerSecond | None = 1000
    flood_above: LinesPerSecond | None = 100
    privacy: Privacy = Privacy()
    tenants: dict[TenantName, TenantPrivacy] = {}
    never_log: tuple[NeverLogged, ...] = Field(default=(), strict=False)

    def privacy_of(self, tenant: str) -> Privacy:
        """What holds for a tenant: ``privacy``, but for what is set for the tenant."""
        own = self.tenants.get(tenant)
        if own is None:
            return self.privacy
        differing = {name: value for name, value in own if value is not None}
        return self.privacy.model_copy(update=differing)


class Tracing(Section):
    """OpenTelemetry traces, sent with OTLP over HTTP."""

    endpoint: Collector | None = None
    sample: Annotated[float, Field(ge=0, le=1)] = 0.01


class Limits(Section):
    """Bounds on what strangers can make the proxy hold or do, in bytes, seconds, and numbers of things."""

    connections: Count | None = None
    connections_per_listener: Count | None = None
    connections_per_client: Count | None = None
    connections_per_tenant: Count | None = None
    memory: Annotated[int, Field(ge=64 << 20, le=1 << 46)] | None = None
    loop_lag: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    connect_head_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 32 * 1024
    client_hello_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 * 1024
    connect_head_timeout: Seconds = 10.0
    tls_timeout: Seconds = 10.0
    connect_timeout: Seconds = 10.0
    resolve_timeout: Seconds = 5.0
    idle_timeout: Seconds = 600.0
    half_close_timeout: Seconds = 60.0
    total_timeout: Seconds | None = None
    write_timeout: Seconds = 60.0
    write_rate: Annotated[int, Field(ge=0, le=1 << 30)] = 100
    drain_timeout: Seconds = 30.0
    leaf_timeout: Seconds = 5.0
    store_outage: Seconds = 86_400.0
    leaves_per_second: Annotated[int, Field(ge=1, le=100_000)] = 500
    leaves_per_second_per_tenant: Annotated[int, Field(ge=1, le=100_000)] = 500
    cached_hosts: Annotated[int, Field(ge=16, le=1_000_000)] = 2000
    header_fields: Annotated[int, Field(ge=16, le=10_000)] = 200
    header_bytes: Annotated[int, Field(ge=1024, le=1 << 20)] = 64 * 1024
    http2_streams: Annotated[int, Field(ge=1, le=1000)] = 100
    http2_stream_window: Annotated[int, Field(ge=16 * 1024, le=16 << 20)] = 64 * 1024
    http2_connection_window: Annotated[int, Field(ge=64 * 1024, le=1 << 30)] = 1 << 20
    http2_resets_per_second: PerSecond = 100
    http2_pings_per_second: PerSecond = 100
    http2_settings_per_second: PerSecond = 10
    http2_control_per_second: PerSecond = 100
    http2_empty_per_second: PerSecond = 10


OWN_PORTS = ("metrics", "console")
"""Sections that listen on an address of their own, ``bind``, while they are ``enabled``."""


class Settings(Section):
    """The whole configuration file."""

    state_dir: Annotated[Path, BeforeValidator(_file_name)] = Field(default=Path("var"), strict=False)
    database: Annotated[None, BeforeValidator(_database)] = None
    user: Annotated[str | None, BeforeValidator(_user)] = None
    workers: Annotated[int, Field(ge=0, le=1024)] = 0
    listeners: Annotated[tuple[Listener, ...], AfterValidator(_some)] = Field(
        default=(Listener(name="explicit", bind="127.0.0.1:8080"),), strict=False
    )
    trust: Trust = Trust()
    verification: Verification = Verification()
    egress: Egress = Egress()
    resolver: Resolver = Resolver()
    upstream: Upstream = Upstream()
    inspection: Inspection = Inspection()
    bypass: Bypass = Bypass()
    console: Console = Console()
    metrics: Metrics = Metrics()
    kms: Kms = Kms()
    kmip: Kmip = Kmip()
    wireguard: WireGuard = WireGuard()
    signing: Signing = Signing()
    tls: Tls = Tls()
    tunnel: Tunnel = Tunnel()
    block_page: BlockPage = BlockPage()
    onboarding: Onboarding = Onboarding()
    log: Log = Log()
    tracing: Tracing = Tracing()
    limits: Limits = Limits()

    @property
    def tenants(self) -> tuple[str, ...]:
        """The tenants that connections may belong to, each once."""
        return tuple(dict.fromkeys(tenant for listener in self.listeners for tenant in listener.tenants))

    @model_validator(mode="after")
    def _listeners_apart(self) -> Settings:
        places: list[tuple[str | None, str | None]] = [(listener.name, listener.bind) for listener in self.listeners]
        own = [name for name in OWN_PORTS if getattr(self, name).enabled]
        places += [(None, getattr(self, name).bind) for name in own]
        udp = [position for position, listener in enumerate(self.listeners) if listener.mode == "wireguard"]
        for position, key, message in listener_clashes(places, udp, own):
            count = len(self.listeners)
            where = f"listeners[{position}]" if position < count else own[position - count]
            raise ValueError(f"{where}.{key}: {message}")
        return self

    @model_validator(mode="after")
    def _listeners_known(self) -> Settings:
        names = [listener.name for listener in self.listeners]
        for name, message in unknown_listeners(names, self.onboarding.addresses):
            raise ValueError(f"onboarding.addresses.{name}: {message}")
        return self
