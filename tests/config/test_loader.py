from __future__ import annotations

import errno
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NoReturn, get_args

import pytest
import yaml

from config.loader import DEFAULT_FILE, Loaded, describe, load
from config.problems import ConfigError, Problem
from config.settings import Listener, Mode, Settings

MODES = f"one of {', '.join(get_args(Mode))}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    return folder / "s.yaml"


def loaded(file: Path, text: str) -> Loaded:
    file.write_text(text)
    return load(file, {}, file.parent.parent)


def problems(file: Path, text: str | bytes) -> tuple[Problem, ...]:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, file.parent.parent)
    return caught.value.problems


def only(file: Path, text: str | bytes) -> Problem:
    found = problems(file, text)
    assert len(found) == 1, found
    return found[0]


class TestWhichFile:
    def test_config_wins_over_the_variable_and_the_local_file(self, tmp_path: Path) -> None:
        for name in ("a.yaml", "b.yaml", "sallyport.yaml"):
            (tmp_path / name).write_text("")
        environ = {"SALLYPORT_CONFIG": "b.yaml"}
        assert load(Path("a.yaml"), environ, tmp_path).path == tmp_path / "a.yaml"
        assert load(None, environ, tmp_path).path == tmp_path / "b.yaml"
        assert load(None, {}, tmp_path).path == tmp_path / "sallyport.yaml"
        assert load(None, {"SALLYPORT_CONFIG": ""}, tmp_path).path == tmp_path / "sallyport.yaml"
        (tmp_path / "sallyport.yaml").unlink()
        assert load(None, {}, tmp_path).path == DEFAULT_FILE

    def test_a_local_file_that_can_not_be_read_is_an_error_and_not_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "sallyport.yaml").symlink_to("nowhere")
        with pytest.raises(ConfigError, match=r"^/.*/sallyport.yaml: no such file; name one with --config"):
            load(None, {}, tmp_path)

    def test_a_missing_file_is_one_line_that_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / "x.yaml", {}, tmp_path)
        assert str(caught.value) == f"{tmp_path}/x.yaml: no such file; name one with --config or SALLYPORT_CONFIG"

    def test_a_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="this is a folder; expected a YAML file"):
            load(tmp_path, {}, tmp_path)

    def test_a_file_below_a_file_is_refused(self, file: Path) -> None:
        file.write_text("")
        with pytest.raises(ConfigError, match="can't be read: Not a directory"):
            load(file / "x", {}, file.parent)

    def test_a_file_without_permission_is_refused(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def denied(*_: object) -> NoReturn:
            raise PermissionError(errno.EACCES, "Permission denied")

        # Not chmod: the tests may run as root, who reads everything.
        monkeypatch.setattr(Path, "open", denied)
        with pytest.raises(ConfigError, match="permission denied; the user who runs sallyport must be able to read it"):
            load(file, {}, file.parent)

    def test_nothing_is_created(self, tmp_path: Path) -> None:
        load(None, {}, tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestPaths:
    def test_relative_paths_are_taken_from_the_files_folder(self, file: Path) -> None:
        (file.parent / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
        settings = loaded(file, "state_dir: state\ntrust: {common_store: ca.pem}\nlog: {file: ../log.json}\n").settings
        assert settings.state_dir == file.parent / "state"
        assert settings.trust.common_store == str(file.parent / "ca.pem")
        assert settings.log.file == str(file.parent / "../log.json")

    def test_absolute_paths_stay(self, file: Path) -> None:
        assert loaded(file, "state_dir: /srv/s").settings.state_dir == Path("/srv/s")

    def test_state_dir_of_the_packaged_default_is_in_the_current_folder(self, tmp_path: Path) -> None:
        assert load(None, {}, tmp_path).settings.state_dir == tmp_path / "var"
        assert load(DEFAULT_FILE, {}, tmp_path).settings.state_dir == tmp_path / "var"
        # Named by a relative path, as `make run` does.
        assert load(Path("config/default.yaml"), {}, DEFAULT_FILE.parents[1]).settings.state_dir == (
            DEFAULT_FILE.parents[1] / "var"
        )

    def test_a_relative_config_is_absolute_in_the_end(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file.write_text("")
        monkeypatch.chdir(file.parent)
        assert load(Path("s.yaml"), {}, Path()).settings.state_dir == file.parent / "var"

    @pytest.mark.parametrize("name", ["certifi", "system"])
    def test_a_store_by_name_stays_a_name(self, file: Path, name: str) -> None:
        assert loaded(file, f"trust: {{common_store: {name}}}").settings.trust.common_store == name

    def test_a_missing_store_is_one_line_with_its_place(self, file: Path) -> None:
        file.write_text("workers: 1\ntrust:\n  common_store: ca.pem\n")
        with pytest.raises(ConfigError) as caught:
            load(file, {}, file.parent)
        assert str(caught.value) == (
            f"{file}:3: trust.common_store: no such file: {file.parent}/ca.pem; "
            "expected certifi, system or the path of a PEM file"
        )

    def test_a_store_that_is_a_folder_or_holds_nothing_is_refused(self, file: Path) -> None:
        assert only(file, "trust: {common_store: .}").message.endswith("is a folder; expected the path of a PEM file")
        (file.parent / "ca.pem").write_text("hello")
        assert "holds no certificate" in only(file, "trust: {common_store: ca.pem}").message

    def test_the_folder_of_crls_is_one_beside_the_file_and_has_to_be_there(self, file: Path) -> None:
        problem = only(file, "verification:\n  crl_directory: crls\n")
        assert (problem.path, problem.line) == ("verification.crl_directory", 2)
        assert problem.message == f"{file.parent}/crls is no folder; expected one with CRLs"
        (file.parent / "crls").mkdir()
        settings = loaded(file, "verification: {crl_directory: crls}").settings
        assert settings.verification.crl_directory == str(file.parent / "crls")

    def test_a_log_file_that_is_a_folder_is_refused(self, file: Path) -> None:
        assert only(file, "log:\n  file: .").path == "log.file"

    def test_privacy_for_a_tenant_without_a_listener_is_refused(self, file: Path) -> None:
        problem = only(file, "log:\n  tenants:\n    gests: {client: none}\n")
        assert (problem.path, problem.line) == ("log.tenants.gests", 3)
        assert problem.message == "no listener belongs to the tenant gests"


class TestDefaults:
    def test_the_packaged_file_equals_the_models(self) -> None:
        assert Settings.model_validate(yaml.safe_load(DEFAULT_FILE.read_text())) == Settings()

    def test_the_packaged_file_writes_every_setting_out(self) -> None:
        written = yaml.safe_load(DEFAULT_FILE.read_text())
        expected = json.loads(Settings().model_dump_json())

        def keys(value: object, path: str = "") -> set[str]:
            if isinstance(value, dict):
                return {path} | {k for key, inner in value.items() for k in keys(inner, f"{path}.{key}")}
            if isinstance(value, list):
                return {path} | {k for inner in value for k in keys(inner, f"{path}[]")}
            return {path}

        assert keys(written) == keys(expected)

    def test_every_setting_has_a_comment(self) -> None:
        lines = DEFAULT_FILE.read_text().splitlines()
        uncommented = [
            line
            for number, line in enumerate(lines)
            if line and line[0] not in " #" and not lines[number - 1].startswith("#")
        ]
        assert uncommented == []

    def test_the_document_about_it_names_every_setting_and_its_default(self) -> None:
        table = (DEFAULT_FILE.parents[1] / "docs" / "configuration.md").read_text()
        for section, value in Settings().model_dump(mode="json").items():
            if isinstance(value, dict):
                for key, default in value.items():
                    shown = json.dumps(default) if not isinstance(default, str) else default
                    row = next(line for line in table.splitlines() if line.startswith(f"| `{section}.{key}`"))
                    assert f"`{shown.removesuffix('.0')}`" in row, row
            else:
                assert f"| `{section}" in table

    def test_an_empty_file_has_the_defaults(self, file: Path) -> None:
        for text in ("", "# nothing\n", "---\n", "---\n...\n"):
            settings = loaded(file, text).settings
            assert settings == Settings(state_dir=file.parent / "var")

    def test_what_is_described_loads_back_to_the_same(self, file: Path) -> None:
        settings = loaded(
            file, "listeners: [{name: a, bind: '[::1]:0'}]\negress: {allow: [127.0.0.0/8]}\nlimits: {tls_timeout: 3}"
        ).settings
        described = describe(settings)
        assert described["egress"] == {"allow": ["127.0.0.0/8"], "deny": []}
        assert described["state_dir"] == str(file.parent / "var")
        assert json.loads(json.dumps(described)) == described
        assert loaded(file, yaml.safe_dump(described)).settings == settings

    def test_the_default_file_is_in_the_wheel(self, tmp_path: Path) -> None:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
        subprocess.run(build, cwd=DEFAULT_FILE.parents[1], check=True, capture_output=True, timeout=60)
        (wheel,) = tmp_path.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            assert archive.read("config/default.yaml") == DEFAULT_FILE.read_bytes()


class TestProblems:
    def test_all_are_reported_at_once_in_the_order_of_the_file(self, file: Path) -> None:
        text = """\
workers: many
listeners:
  - name: a
    bind: 127.0.0.1:8080
  - name: a
    bind: 0.0.0.0:8080
    mode: magic
kms:
  provider: vault
lissteners: []
egress: {allow: [10.0.0.1/8]}
"""
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(file, {}, file.parent)
        assert str(caught.value).splitlines() == [
            f"{file}:1: workers: expected a whole number from 0 to 1024, got 'many'",
            f"{file}:5: listeners[1].name: 'a' is the name of listeners[0] too; expected a name of its own",
            f"{file}:6: listeners[1].bind: 0.0.0.0:8080 is taken by listeners[0]; "
            "expected an address and port of its own",
            f"{file}:7: listeners[1].mode: expected {MODES}, got 'magic'",
            f"{file}:9: kms.provider: KMS provider vault is not in this version; expected local",
            f"{file}:10: lissteners: unknown key; did you mean listeners?",
            f"{file}:11: egress.allow[0]: expected a CIDR such as 10.0.0.0/8: 10.0.0.1/8 has host bits set",
        ]

    @pytest.mark.parametrize("written", ["off", "'off'", "soft", "hard"])
    def test_off_is_a_word_also_without_quotes(self, file: Path, written: str) -> None:
        settings = loaded(file, f"verification: {{revocation: {written}}}").settings
        assert settings.verification.revocation == written.strip("'")

    @pytest.mark.parametrize(
        ("text", "path", "line", "message"),
        [
            (
                "verification: {revocation: on}",
                "verification.revocation",
                1,
                "expected one of off, soft, hard, got on",
            ),
            ("\nworkers: 1.5", "workers", 2, "expected a whole number from 0 to 1024, got 1.5"),
            ("workers: -1", "workers", 1, "expected a whole number from 0 to 1024, got -1"),
            ("workers: 2000", "workers", 1, "expected a whole number from 0 to 1024, got 2000"),
            ("workers: yes", "workers", 1, "expected a whole number from 0 to 1024, got yes"),
            ("workers: '2'", "workers", 1, "expected a whole number from 0 to 1024, got '2'"),
            ("workers:\n  - 2", "workers", 1, "expected a whole number from 0 to 1024, got a list"),
            ("workers:", "workers", 1, "expected a whole number from 0 to 1024, got nothing"),
            ("state_dir: 3", "state_dir", 1, "expected a path, got 3"),
            ("state_dir: ''", "state_dir", 1, "expected a path, absolute or relative (~ is not expanded), got ''"),
            ("state_dir: ~/x", "state_dir", 1, "expected a path, absolute or relative (~ is not expanded), got '~/x'"),
            ("trust:", "trust", 1, "expected a mapping with the keys common_store, got nothing"),
            ("trust: certifi", "trust", 1, "expected a mapping with the keys common_store, got 'certifi'"),
            ("listeners: []", "listeners", 1, "expected at least one listener"),
            (
                "listeners: 8080",
                "listeners",
                1,
                f"expected a list, each item a mapping with the keys {', '.join(Listener.model_fields)}, got 8080",
            ),
            (
                "listeners:\n  - name: a",
                "listeners[0].bind",
                2,
                "missing; expected ADDRESS:PORT, as in 127.0.0.1:8080 or [::1]:8080",
            ),
            (
                "listeners:\n  - name: a\n    bind: 8080",
                "listeners[0].bind",
                3,
                "expected ADDRESS:PORT, as in 127.0.0.1:8080 or [::1]:8080, got 8080 "
                "(a number to YAML; in quotes it is text)",
            ),
            (
                "listeners:\n  - name: a\n    bind: 127.0.0.1:99999",
                "listeners[0].bind",
                3,
                "expected ADDRESS:PORT, as in 127.0.0.1:8080 or [::1]:8080, got '127.0.0.1:99999'",
            ),
            (
                "listeners:\n  - bind: 127.0.0.1:1\n    name: no",
                "listeners[0].name",
                3,
                "expected a name of 1 to 63 letters, digits, dots, hyphens and underscores, got no "
                "(true or false to YAML; in quotes it is text)",
            ),
            (
                "listeners: [{name: a, bind: '127.0.0.1:1', tenant: Acme}]",
                "listeners[0].tenant",
                1,
                "expected a tenant's name: 1 to 63 lower-case letters, digits and hyphens or null, got 'Acme'",
            ),
            (
                "listeners: [{name: a, bind: '127.0.0.1:1', mode: magic}]",
                "listeners[0].mode",
                1,
                f"expected {MODES}, got 'magic'",
            ),
            (
                "limits:\n\n  tls_timeout: 10s",
                "limits.tls_timeout",
                3,
                "expected a number of seconds above 0 and not above 86400 (one day), got '10s'",
            ),
            (
                "limits: {idle_timeout: .nan}",
                "limits.idle_timeout",
                1,
                "expected a number of seconds above 0 and not above 86400 (one day), got .nan",
            ),
            (
                "limits: {idle_timeout: 0}",
                "limits.idle_timeout",
                1,
                "expected a number of seconds above 0 and not above 86400 (one day), got 0",
            ),
            ("limits: {tls_timout: 3}", "limits.tls_timout", 1, "unknown key; did you mean tls_timeout?"),
            ("kms: {colour: red}", "kms.colour", 1, "unknown key; expected one of provider"),
            ("Workers: 3", "Workers", 1, "unknown key; did you mean workers?"),
            ("8080: 3", "8080", 1, None),
            (
                "signing: {leaf_lifetime: 700000}",
                "signing.leaf_lifetime",
                1,
                "expected a whole number of seconds from 3600 (an hour) to 604800 (7 days), got 700000",
            ),
            (
                "onboarding: {addresses: {explict: 'proxy.example:80'}}",
                "onboarding.addresses.explict",
                1,
                "no listener has this name; expected explicit",
            ),
            (
                "onboarding: {host: sallyport}",
                "onboarding.host",
                1,
                "expected a host name with a dot in it, as in sallyport.local, got 'sallyport'",
            ),
            (
                "block_page: {contact: 4711}",
                "block_page.contact",
                1,
                "expected one line of plain text of up to 200 characters or null, got 4711 "
                "(a number to YAML; in quotes it is text)",
            ),
            (
                'block_page: {contact: "call \u202e4711"}',
                "block_page.contact",
                1,
                "expected one line of plain text, as in IT help desk, ext. 4711",
            ),
            ("log: {level: loud}", "log.level", 1, "expected one of debug, info, warning, error, got 'loud'"),
            ("log: {requests: 'yes'}", "log.requests", 1, "expected true or false, got 'yes'"),
            ("log: {file: 3}", "log.file", 1, "expected text or null, got 3 (a number to YAML; in quotes it is text)"),
            ("egress:\n  allow:\n    - 3", "egress.allow[0]", 3, "expected a CIDR such as 10.0.0.0/8, got 3"),
            (
                "egress: {deny: 10.0.0.0/8}",
                "egress.deny",
                1,
                "expected a list, each item a CIDR such as 10.0.0.0/8, got '10.0.0.0/8'",
            ),
            (
                "resolver:\n  hosts:\n    a.example: b.example",
                "resolver.hosts.a.example",
                3,
                "expected an IP address, got 'b.example'",
            ),
            ("resolver: {hosts: []}", "resolver.hosts", 1, "expected a mapping, each value an IP address, got a list"),
        ],
    )
    def test_a_wrong_value_says_what_was_expected(
        self, file: Path, text: str, path: str, line: int, message: str | None
    ) -> None:
        problem = only(file, text)
        assert (problem.path, problem.line) == (path, line)
        assert problem.message == message or (message is None and "expected one of state_dir" in problem.message)

    @pytest.mark.parametrize(
        ("text", "path", "message"),
        [
            *(
                (
                    f"kms: {{provider: {kms}}}",
                    "kms.provider",
                    f"KMS provider {kms} is not in this version; expected local",
                )
                for kms in ("aws", "vault", "pkcs11")
            ),
            (
                "database: postgresql+psycopg://u:hunter2@h/n",
                "database",
                "PostgreSQL is not in this version; expected null (SQLite in state_dir)",
            ),
        ],
    )
    def test_what_comes_later_is_refused_by_name(self, file: Path, text: str, path: str, message: str) -> None:
        problem = only(file, text)
        assert (problem.path, problem.message) == (path, message)

    def test_an_inspector_is_a_script_or_a_mapping_with_one(self, file: Path) -> None:
        (file.parent / "mine.py").write_text("")
        text = "inspection: {addons: [icap, {script: mine.py, hosts: ['*.example'], on_error: pass}]}"
        shipped, mine = loaded(file, text).settings.inspection.addons
        assert (shipped.script, shipped.on_error, shipped.hosts) == ("icap", "block", ("*",))
        assert (mine.script, mine.on_error, mine.hosts) == (str(file.parent / "mine.py"), "pass", ("*.example",))

    @pytest.mark.parametrize(
        ("text", "path", "message"),
        [
            ("addons: [not-there.py]", "inspection.addons[0]", "there is no file"),
            ("addons: [icap, icap]", "inspection", "icap stands there twice"),
            (
                "addons: [{script: icap, hosts: ['a.*.b']}]",
                "inspection.addons[0].hosts[0]",
                "expected *, *.example.com",
            ),
            ("hosts: ['https://a.example/']", "inspection.hosts[0]", "expected *, *.example.com"),
            ("addons: [{script: icap, tenants: [Not_One]}]", "inspection.addons[0].tenants[0]", "or a tenant's name"),
            (
                "addons: [{script: icap, on_error: open}]",
                "inspection.addons[0].on_error",
                "expected one of block, pass",
            ),
            ("addons: [{script: icap, timeout: 0}]", "inspection.addons[0].timeout", "a number of seconds above 0"),
            ("on_large: drop", "inspection.on_large", "expected one of block, stream"),
            ("body_limit: -1", "inspection.body_limit", "a whole number from 0"),
        ],
    )
    def test_what_is_wrong_with_inspection_is_said(self, file: Path, text: str, path: str, message: str) -> None:
        problem = only(file, f"inspection: {{{text}}}")
        assert problem.path == path
        assert message in problem.message

    def test_a_bypass_list_is_a_file_or_a_mapping_with_one(self, file: Path) -> None:
        (file.parent / "banks.txt").write_text("")
        (file.parent / "more.txt").write_text("")
        text = "bypass: {files: [banks.txt, {file: more.txt, tenants: [default]}]}"
        banks, more = loaded(file, text).settings.bypass.files
        assert (banks.file, banks.is_for("default"), banks.is_for("other")) == (
            str(file.parent / "banks.txt"), True, True,
        )  # fmt: skip
        assert (more.file, more.is_for("default"), more.is_for("other")) == (
            str(file.parent / "more.txt"), True, False,
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "path", "message"),
        [
            ("[none.txt]", "bypass.files[0]", "none.txt: No such file"),
            ("[/dev/null, /dev/null]", "bypass", "/dev/null stands there twice"),
            ("[{file: /dev/null, tenants: [gests]}]", "bypass.files[0].tenants", "no listener belongs to the tenant"),
            ("[{file: /dev/null, tenants: [Not_One]}]", "bypass.files[0].tenants[0]", "or a tenant's name"),
            ("[{}]", "bypass.files[0].file", "missing"),
            ("[3]", "bypass.files[0]", "expected a mapping with the keys file, tenants"),
            ("banks.txt", "bypass.files", "expected a list of up to 100 files"),
            (str([f"{number}.txt" for number in range(101)]), "bypass.files", "expected a list of up to 100 files"),
        ],
    )
    def test_what_is_wrong_with_bypass_lists_is_said(self, file: Path, text: str, path: str, message: str) -> None:
        problem = only(file, f"bypass: {{files: {text}}}")
        assert problem.path == path
        assert message in problem.message

    def test_what_comes_later_is_taken_in_its_switched_off_form(self, file: Path) -> None:
        text = "inspection: {addons: []}\ndatabase: null\n"
        assert loaded(file, text).settings == Settings(state_dir=file.parent / "var")

    def test_metrics_on_the_port_of_a_listener_are_refused_unless_they_are_off(self, file: Path) -> None:
        text = "listeners: [{name: a, bind: '127.0.0.1:9090'}]\n"
        for more in ("", "metrics: {bind: '0.0.0.0:9090'}\n"):
            problem = only(file, text + more)
            assert problem.path == "metrics.bind"
            assert "is taken by listeners[0]; expected an address and port of its own" in problem.message
        for more in ("metrics: {enabled: false}\n", "metrics: {bind: '127.0.0.1:9091'}\n"):
            assert loaded(file, text + more).settings.listeners[0].bind == "127.0.0.1:9090"

    def test_the_console_has_an_address_of_its_own(self, file: Path) -> None:
        for text, taken in (
            ("listeners: [{name: a, bind: '127.0.0.1:9443'}]\n", "listeners[0]"),
            ("metrics: {bind: '127.0.0.1:9443'}\n", "metrics.bind"),
        ):
            problem = only(file, text)
            assert (problem.path, problem.line) == ("console.bind", 1)
            assert f"is taken by {taken}; expected an address and port of its own" in problem.message
            assert loaded(file, text + "console: {enabled: false}\n").settings.console.enabled is False

    @pytest.mark.parametrize(
        ("text", "path", "message"),
        [
            ("{bind: '0.0.0.0:9443'}", "console", "expected names or public_url, or tls.certificate and tls.key"),
            ("{tls: {key: k.pem}}", "console.tls", "certificate and key go together; expected both or neither"),
            ("{public_url: 'http://c.example'}", "console.public_url", "expected an https URL"),
            ("{public_url: 'https://c.example/x'}", "console.public_url", "expected an https URL"),
            ("{public_url: 'https://u:pw@c.example'}", "console.public_url", "expected an https URL"),
            ("{trusted_proxies: [10.0.0.1/8]}", "console.trusted_proxies[0]", "10.0.0.1/8 has host bits set"),
            ("{plain: true}", "console.plain", "unknown key; expected one of enabled, bind, tenant, names, tls"),
        ],
    )
    def test_what_the_console_does_not_take(self, file: Path, text: str, path: str, message: str) -> None:
        problem = only(file, f"console: {text}")
        assert problem.path == path
        assert message in problem.message
        assert "pw" not in problem.message

    def test_the_consoles_files_lie_beside_the_configuration(self, file: Path) -> None:
        text = (
            "console: {bind: '0.0.0.0:9443', public_url: 'https://c.example/', tls: {certificate: c.pem, key: k.pem}}"
        )
        console = loaded(file, text).settings.console
        assert console.tls.certificate == str(file.parent / "c.pem")
        assert console.tls.key == str(file.parent / "k.pem")
        assert console.public_url == "https://c.example"

    def test_a_database_address_is_never_repeated(self, file: Path) -> None:
        for address in ("mysql://u:hunter2@h/n", "postgresql://u:hunter2@h/n"):
            assert "hunter2" not in only(file, f"database: {address}").message

    def test_port_zero_is_taken_more_than_once(self, file: Path) -> None:
        text = "listeners: [{name: a, bind: '127.0.0.1:0'}, {name: b, bind: '127.0.0.1:0'}]"
        assert [listener.bind for listener in loaded(file, text).settings.listeners] == ["127.0.0.1:0"] * 2

    def test_a_file_problem_and_a_value_problem_come_together(self, file: Path) -> None:
        found = problems(file, "workers: 1\nworkers: 2\ntrust: {store: x}\n")
        assert [(problem.path, problem.line) for problem in found] == [("workers", 2), ("trust.store", 3)]

    def test_a_long_value_is_cut(self, file: Path) -> None:
        assert len(only(file, f"workers: {'x' * 100_000}").message) < 200
        assert len(str(only(file, f"egress: {{allow: [{'x' * 100_000}]}}").render("f"))) < 500

    def test_every_problem_is_one_line_without_control_characters(self, file: Path) -> None:
        for text in ('"a\\nb": 1', '"\\x1b[31m": 1', 'workers: "a\\nb"', "a\u2028b: 3", '"\\ud800": 1'):
            for problem in problems(file, text):
                rendered = problem.render("f\ng")
                assert rendered.isprintable(), rendered
