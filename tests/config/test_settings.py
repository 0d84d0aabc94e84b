from __future__ import annotations

import ipaddress

import pytest
from pydantic import ValidationError

from config.settings import Listener, Settings, listener_clashes, parse_bind


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[0:0::1]:1", ("::1", 1)),
    ],
)
def test_a_bind_is_an_address_and_a_port(text: str, expected: tuple[str, int]) -> None:
    assert parse_bind(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1: 80",
        "127.0.0.1:80\n",
        "127.0.0.1:²",
        "127.0.0.1:" + "9" * 5000,
        "localhost:8080",
        "::1:8080",
        "[::1:8080",
        "[127.0.0.1:80",
        "127.0.0.1 :80",
        "1.2.3:80",
    ],
)
def test_what_is_no_bind_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected an? (IP|IPv6)? ?address|^expected ADDRESS:PORT"):
        parse_bind(text)


def test_settings_cross_a_pipe_as_json_and_come_out_the_same() -> None:
    settings = Settings.model_validate(
        {
            "state_dir": "/var/lib/sallyport",
            "listeners": [{"name": "a", "bind": "[::1]:0"}, {"name": "b", "bind": "127.0.0.1:0", "tenant": "t-1"}],
            "egress": {"allow": ["127.0.0.0/8", "::1/128"], "deny": ["10.0.0.1"]},
            "resolver": {"hosts": {"a.example": "192.0.2.1"}},
            "log": {"file": "/var/log/s.json"},
        }
    )
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert again.egress.allow == (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
    assert again.egress.deny == (ipaddress.ip_network("10.0.0.1/32"),)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().workers = 3  # type: ignore[misc] # that it is refused is the test


def clashes(*binds: str) -> list[tuple[int, str]]:
    return [(place, key) for place, key, _ in listener_clashes([(str(n), bind) for n, bind in enumerate(binds)])]


@pytest.mark.parametrize(
    ("binds", "expected"),
    [
        (("127.0.0.1:80", "127.0.0.1:80"), [(1, "bind")]),
        (("127.0.0.1:80", "127.0.0.1:81"), []),
        (("127.0.0.1:80", "127.0.0.2:80"), []),
        (("127.0.0.1:0", "127.0.0.1:0"), []),
        (("0.0.0.0:80", "127.0.0.1:80"), [(1, "bind")]),
        (("127.0.0.1:80", "0.0.0.0:80"), [(1, "bind")]),
        (("0.0.0.0:80", "[::]:80"), []),
        (("[::1]:80", "[0::1]:80"), [(1, "bind")]),
        (("[::]:80", "[::1]:80"), [(1, "bind")]),
        (("127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:80"), [(1, "bind"), (2, "bind")]),
    ],
)
def test_two_listeners_can_not_have_one_port(binds: tuple[str, ...], expected: list[tuple[int, str]]) -> None:
    assert clashes(*binds) == expected


def test_a_port_of_udp_is_another_than_one_of_tcp() -> None:
    def listeners(*modes: str) -> Settings:
        one = {"bind": "127.0.0.1:443"}
        return Settings.model_validate({"listeners": [one | {"name": f"l{n}", "mode": m} for n, m in enumerate(modes)]})

    assert len(listeners("explicit", "wireguard").listeners) == 2
    with pytest.raises(ValidationError, match=r"listeners\[1\].bind: 127.0.0.1:443 is taken by listeners\[0\]"):
        listeners("wireguard", "wireguard")


@pytest.mark.parametrize(
    "endpoint", ["vpn.example.com", "vpn.example.com:51820", "192.0.2.1", "[2001:db8::1]", "[2001:db8::1]:1"]
)
def test_an_endpoint_is_a_host_with_or_without_a_port(endpoint: str) -> None:
    assert Settings.model_validate({"wireguard": {"endpoint": endpoint}}).wireguard.endpoint == endpoint


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        *(
            ({"endpoint": value}, "expected HOST or HOST:PORT")
            for value in ("", "a b", "2001:db8::1", "a:0", "a:65536", "a\n")
        ),
        ({"network": "fd00::/64"}, "network is for IPv4"),
        ({"network6": "10.0.0.0/8"}, "network6 is for IPv6"),
        ({"network": "10.0.0.0/31"}, "has no room for peers"),
        ({"network": "10.0.0.1/8"}, "expected a CIDR"),
    ],
)  # fmt: skip
def test_what_tunnels_can_not_have_is_refused(section: dict[str, str], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Settings.model_validate({"wireguard": section})


def test_no_load_balancer_speaks_for_a_wireguard_listener() -> None:
    with pytest.raises(ValidationError, match="proxy_protocol is of TCP, and mode wireguard is over UDP"):
        Listener.model_validate(
            {"name": "a", "mode": "wireguard", "bind": "0.0.0.0:1", "proxy_protocol": ["10.0.0.0/8"]}
        )


@pytest.mark.parametrize("more", [{"networks": [{"network": "10.0.0.0/8", "tenant": "a"}]}, {"tenant": None}])
def test_a_wireguard_listener_has_one_tenant(more: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"expected tenant, "):
        Listener.model_validate({"name": "a", "mode": "wireguard", "bind": "0.0.0.0:1", **more})


def test_two_listeners_can_not_have_one_name() -> None:
    with pytest.raises(ValidationError, match=r"listeners\[1\]\.name: 'a' is the name of listeners\[0\] too"):
        Settings(listeners=(Listener(name="a", bind="127.0.0.1:0"), Listener(name="a", bind="127.0.0.1:0")))


@pytest.mark.parametrize("name", ["Authorization", "proxy-authorization", "Cookie", "SET-COOKIE", "X-Api-Key"])
@pytest.mark.parametrize("where", ["request_headers", "response_headers"])
def test_a_header_field_that_carries_credentials_is_never_logged(name: str, where: str) -> None:
    for section in ({"privacy": {where: ["via", name]}}, {"tenants": {"a": {where: [name]}}}):
        with pytest.raises(ValidationError, match=f"{name} carries credentials, which are never logged"):
            Settings.model_validate({"log": section})


@pytest.mark.parametrize("name", ["", "a b", "a:", "ä", "a\n", "x" * 65])
def test_what_is_no_header_fields_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="expected a header field's name"):
        Settings.model_validate({"log": {"privacy": {"request_headers": [name]}}})


def test_header_fields_that_are_logged_are_few_and_in_lower_case() -> None:
    assert Settings.model_validate({"log": {"privacy": {"request_headers": ["Via"]}}}).log.privacy.request_headers == (
        "via",
    )
    with pytest.raises(ValidationError):
        Settings.model_validate({"log": {"privacy": {"request_headers": [f"x-{n}" for n in range(17)]}}})


def test_to_log_nothing_of_any_host_is_another_setting() -> None:
    with pytest.raises(ValidationError, match=r"set log\.requests to false"):
        Settings.model_validate({"log": {"never_log": ["*"]}})


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:4318/v1/traces", "https://collector.example/v1/traces", "http://[::1]:4318/v1/traces"]
)
def test_a_collector_is_an_http_url(url: str) -> None:
    assert Settings.model_validate({"tracing": {"endpoint": url}}).tracing.endpoint == url


@pytest.mark.parametrize(
    "url", ["", "collector:4318", "grpc://c.example", "http://", "http://h:99999/", "http://h:0/", "http://a b/"]
)
def test_what_is_no_http_url_takes_no_traces(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an http or https URL"):
        Settings.model_validate({"tracing": {"endpoint": url}})


def test_a_key_in_a_collectors_url_is_refused_and_not_repeated() -> None:
    for url in ("http://me:s3cret@c.example/", "http://c.example/?key=s3cret"):
        with pytest.raises(ValidationError) as caught:
            Settings.model_validate({"tracing": {"endpoint": url}})
        assert "s3cret" not in str(caught.value.errors()[0]["ctx"]["error"])


def test_whom_to_ask_is_a_short_line() -> None:
    page = Settings.model_validate({"block_page": {"contact": " IT help desk, ext. 4711 "}}).block_page
    assert page.contact == "IT help desk, ext. 4711"
    for wrong in ("", " ", "x" * 201, "a\nb", "a\u202eb", "\x1b[31m"):
        with pytest.raises(ValidationError):
            Settings.model_validate({"block_page": {"contact": wrong}})


@pytest.mark.parametrize("name", ["sallyport.local", "Setup.Corp.Example", "a-b.xn--bcher-kva.example"])
def test_the_proxys_own_name_is_a_host_name(name: str) -> None:
    assert Settings.model_validate({"onboarding": {"host": name}}).onboarding.name == name.lower()
    assert Settings.model_validate({"onboarding": {"host": name, "enabled": False}}).onboarding.name == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": "sallyport"},
        {"host": "192.0.2.1"},
        {"host": "a.1"},
        {"host": "a..b"},
        {"host": "-a.example"},
        {"host": "a.example."},
        {"host": "a.example:80"},
        {"host": "bücher.example"},
        {"host": "a.example/x"},
        {"host": f"{'a' * 64}.example"},
        {"addresses": {"explicit": "proxy.example"}},
        {"addresses": {"explicit": "proxy.example:0"}},
        {"addresses": {"explicit": 'a";alert(1)//:80'}},
        {"addresses": {"explicit": "http://proxy.example:80"}},
        {"addresses": {"explicit": "2001:db8::1:80"}},
        {"addresses": {"none": "proxy.example:80"}},
        {"direct": ["*"]},
        {"direct": ["10.0.0.1/8"]},
        {"direct": ["bücher.example"]},
        {"direct": ["a b"]},
    ],
)
def test_what_would_go_wrong_on_devices_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"onboarding": wrong})


def test_what_devices_reach_directly_is_written_in_one_way() -> None:
    onboarding = Settings.model_validate(
        {
            "onboarding": {
                "direct": ["<local>", "*.Corp.Example", "10.0.0.0/8", "192.0.2.1"],
                "addresses": {"explicit": "[2001:db8::1]:8080"},
            }
        }
    ).onboarding
    assert onboarding.direct == ("<local>", "*.corp.example", "10.0.0.0/8", "192.0.2.1")
