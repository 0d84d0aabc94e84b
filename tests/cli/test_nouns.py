from __future__ import annotations

import json
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.cli.conftest import Run
from tests.harness.pki import DAY, NOW, Authority


def refused(run: Run, *args: str, stdin: bytes | None = None) -> str:
    """Run what must be refused: status 1, nothing on stdout, one line on stderr, which is returned."""
    done = run(*args, stdin=stdin)
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("Error: ").rstrip("\n")


# tenant


def test_the_first_command_makes_the_installation(run: Run, tmp_path: Path) -> None:
    done = run("tenant", "list", "--json")
    assert done.exit_code == 0
    assert [tenant["name"] for tenant in json.loads(done.stdout)] == ["default"]
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_a_tenant_comes_shows_and_goes(run: Run, tmp_path: Path) -> None:
    assert run("tenant", "create", "acme").exit_code == 0
    root = tmp_path / "state" / "certs" / "acme-root.pem"
    assert b"acme" in x509.load_pem_x509_certificate(root.read_bytes()).subject.public_bytes()
    shown = json.loads(run("tenant", "show", "acme", "--json").stdout)
    assert shown["signing_ca"] == "built-in"
    assert shown["root"] == str(root)
    assert shown["listeners"] == []
    assert json.loads(run("tenant", "show", "default", "--json").stdout)["listeners"] == ["explicit"]
    assert "signing CA:        built-in" in run("tenant", "show", "acme").stdout
    assert run("tenant", "delete", "acme").exit_code == 0
    assert not root.exists()
    assert "no tenant 'acme'" in refused(run, "tenant", "show", "acme")


def test_a_tenant_in_use_or_of_a_bad_or_taken_name_is_refused(run: Run) -> None:
    assert "listener explicit" in refused(run, "tenant", "delete", "default")
    assert "'Acme'" in refused(run, "tenant", "create", "Acme")
    assert "default" in refused(run, "tenant", "create", "default")


# trusted-ca


def test_a_trusted_ca_is_validated_added_listed_shown_and_deleted(run: Run, bundle: Path) -> None:
    checked = run("trusted-ca", "validate", str(bundle))
    assert checked.exit_code == 0
    assert "Certificate 2 of 2" in checked.stdout
    assert "the anchor would be Company Root" in checked.stdout
    assert json.loads(run("trusted-ca", "list", "--json").stdout) == []

    added = run("trusted-ca", "add", "company", str(bundle))
    assert added.exit_code == 0, added.stderr
    assert added.stdout == "Trusted CA company (Company Root) is saved and counts from the next connection.\n"

    (listed,) = json.loads(run("trusted-ca", "list", "--json").stdout)
    assert listed["name"] == "company"
    assert listed["status"] == "active"
    assert [one["common_name"] for one in listed["certificates"]] == ["Company Issuing", "Company Root"]
    heading, row = run("trusted-ca", "list").stdout.splitlines()
    assert " ".join(heading.split()) == "NAME STATUS COMMON NAME HOSTS EXPIRES LAST CHANGE USED BY (24 H)"
    assert row.startswith("company  active  Company Root  all hosts  20")

    shown = run("trusted-ca", "show", "company").stdout
    assert shown.index("Intermediate 1") < shown.index("CN=Company Issuing") < shown.index("Anchor")
    assert run("trusted-ca", "delete", "company").exit_code == 0
    assert "no trusted CA 'company'" in refused(run, "trusted-ca", "delete", "company")


def test_several_trusted_cas_are_validated_and_added_together_or_none(run: Run, bundle: Path, tmp_path: Path) -> None:
    other, broken = tmp_path / "other.pem", tmp_path / "broken.pem"
    other.write_bytes(Authority.root("Other Root").pem())
    broken.write_bytes(b"nothing here")
    checked = run("trusted-ca", "validate", str(bundle), str(broken), str(other))
    assert checked.exit_code == 1
    assert checked.stdout.count("It would be accepted") == 2
    assert "Error: the file holds no certificate" in checked.stderr
    told = json.loads(run("trusted-ca", "validate", str(bundle), str(broken), "--json").stdout)
    assert [(one["file"], one["ok"]) for one in told] == [(str(bundle), True), (str(broken), False)]

    assert "broken: the file holds no" in refused(
        run, "trusted-ca", "add", "company", str(bundle), "broken", str(broken)
    )
    assert json.loads(run("trusted-ca", "list", "--json").stdout) == []
    odd = run("trusted-ca", "add", "company", str(bundle), "other")
    assert (odd.exit_code, odd.stderr.startswith("Error: other: a name without a file")) == (2, True)
    added = run("trusted-ca", "add", "company", str(bundle), "other", str(other), "--host", "*.Corp.example")
    assert added.stdout.splitlines() == [
        "Trusted CA company (Company Root) is saved and counts from the next connection.",
        "Trusted CA other (Other Root) is saved and counts from the next connection.",
    ]
    assert [one["hosts"] for one in json.loads(run("trusted-ca", "list", "--json").stdout)] == [["*.corp.example"]] * 2


def test_a_trusted_ca_is_limited_to_hosts_and_freed_again(run: Run, bundle: Path) -> None:
    run("trusted-ca", "add", "company", str(bundle))
    limited = run("trusted-ca", "limit", "company", "*.corp.example", "intranet", "192.0.2.7")
    expected = "*.corp.example, intranet, 192.0.2.7"
    assert limited.stdout == f"Trusted CA company counts for {expected}, from the next connection on.\n"
    assert "*.corp.example, intranet, 1 more" in run("trusted-ca", "list").stdout
    assert f"hosts:        {expected}\n" in run("trusted-ca", "show", "company").stdout
    assert "is no host pattern" in refused(run, "trusted-ca", "limit", "company", "a b")
    for args in ((), ("one.example", "--all-hosts")):
        assert run("trusted-ca", "limit", "company", *args).exit_code == 2
    assert "counts for all hosts" in run("trusted-ca", "limit", "company", "--all-hosts").stdout


def test_who_has_looked_at_an_older_generation_is_told_what_was_changed(run: Run, bundle: Path) -> None:
    run("trusted-ca", "add", "company", str(bundle))
    seen = str(json.loads(run("tenant", "show", "default", "--json").stdout)["generation"])
    assert run("--if-generation", seen, "trusted-ca", "deactivate", "company").exit_code == 0
    told = refused(run, "--if-generation", seen, "trusted-ca", "delete", "company")
    assert f"company: changed after generation {seen}, now {int(seen) + 1}: it was deactivated by" in told


def test_standard_input_is_a_file_too_and_inactive_is_said(run: Run, bundle: Path) -> None:
    added = run("trusted-ca", "add", "company", "-", "--inactive", stdin=bundle.read_bytes())
    assert added.exit_code == 0, added.stderr
    assert "is not active" in added.stdout
    assert json.loads(run("trusted-ca", "show", "company", "--json").stdout)["status"] == "inactive"


def test_a_file_in_the_wrong_order_is_taken_and_said_to_be(run: Run, company: tuple[Authority, Authority]) -> None:
    root, issuing = company
    added = run("trusted-ca", "add", "company", "-", "--json", stdin=root.pem() + issuing.pem())
    assert added.exit_code == 0, added.stderr
    told = json.loads(added.stdout)
    assert [one["common_name"] for one in told["certificates"]] == ["Company Issuing", "Company Root"]
    assert "reordered" in [finding["code"] for finding in told["findings"]]


def test_each_refused_upload_has_its_reason_and_saves_nothing(run: Run, company: tuple[Authority, Authority]) -> None:
    _, issuing = company
    expired = Authority.root("Old Root", not_before=NOW - 3 * DAY, not_after=NOW - DAY)
    reasons = {
        refused(run, "trusted-ca", "add", "x", "-", stdin=data)
        for data in (b"nothing here", issuing.key_pem(), issuing.leaf("a.example").pem(), expired.pem())
    }
    assert len(reasons) == 4
    assert not any("-----" in reason for reason in reasons)
    assert json.loads(run("trusted-ca", "list", "--json").stdout) == []


def test_a_validation_that_fails_shows_what_is_there_and_is_one(run: Run) -> None:
    old = Authority.root("Old Root", not_before=NOW - 3 * DAY, not_after=NOW - DAY).pem()
    told = run("trusted-ca", "validate", "-", stdin=old)
    assert told.exit_code == 1
    assert "expired" in told.stderr
    assert "would be accepted" not in told.stdout
    as_json = run("trusted-ca", "validate", "-", "--json", stdin=old)
    assert as_json.exit_code == 1
    answer = json.loads(as_json.stdout)
    assert answer["ok"] is False
    assert [finding["code"] for finding in answer["findings"] if finding["level"] == "error"] == ["expired"]


def test_tenants_do_not_see_each_other(run: Run, bundle: Path) -> None:
    run("tenant", "create", "acme")
    assert run("--tenant", "acme", "trusted-ca", "add", "company", str(bundle)).exit_code == 0
    assert json.loads(run("trusted-ca", "list", "--json").stdout) == []
    assert len(json.loads(run("--tenant", "acme", "trusted-ca", "list", "--json").stdout)) == 1
    assert "no tenant 'nobody'" in refused(run, "--tenant", "nobody", "trusted-ca", "list")


def test_a_name_that_steers_a_terminal_is_shown_escaped(run: Run) -> None:
    root = Authority.root("\x1b[2Jpwned\x07 Root")
    assert run("trusted-ca", "add", "odd", "-", stdin=root.pem()).exit_code == 0
    for args in (("trusted-ca", "list"), ("trusted-ca", "show", "odd"), ("trusted-ca", "validate", "-")):
        told = run(*args, stdin=Authority.root("\x1b[2Jpwned\x07 Other").pem()).output
        assert "\x1b" not in told
        assert "\\x1b[2Jpwned\\x07" in told


# signing-ca


def test_the_built_in_ca_is_listed_and_shown(run: Run) -> None:
    (listed,) = json.loads(run("signing-ca", "list", "--json").stdout)
    assert (listed["name"], listed["kind"], listed["status"]) == ("built-in", "built-in", "active")
    assert [one["key"] for one in listed["certificates"]] == ["EC secp256r1", "EC secp384r1"]
    shown = run("signing-ca", "show", "built-in").stdout
    assert shown.index("Issuing certificate") < shown.index("Root")
    assert "no signing CA 'x'" in refused(run, "signing-ca", "show", "x")


def test_every_part_downloads_in_every_form(run: Run, tmp_path: Path) -> None:
    chain = x509.load_pem_x509_certificates(run("signing-ca", "download", "--chain").stdout_bytes)
    assert len(chain) == 2
    assert x509.load_pem_x509_certificates(run("signing-ca", "download").stdout_bytes) == chain[1:]
    assert x509.load_pem_x509_certificates(run("signing-ca", "download", "--root").stdout_bytes) == chain[1:]
    assert x509.load_pem_x509_certificates(run("signing-ca", "download", "--intermediate").stdout_bytes) == chain[:1]
    der = run("signing-ca", "download", "built-in", "--intermediate", "--format", "der").stdout_bytes
    assert x509.load_der_x509_certificate(der) == chain[0]
    p7b = run("signing-ca", "download", "--chain", "--format", "p7b").stdout_bytes
    assert set(pkcs7.load_der_pkcs7_certificates(p7b)) == set(chain)
    target = tmp_path / "root.crt"
    told = run("signing-ca", "download", "--format", "der", "--output", str(target))
    assert told.stdout.startswith(f"Written to {target}: Sallyport Root CA (default, ")
    assert x509.load_der_x509_certificate(target.read_bytes()) == chain[1]


def test_a_chain_is_no_der_file_and_an_output_must_be_writable(run: Run, tmp_path: Path) -> None:
    done = run("signing-ca", "download", "--chain", "--format", "der")
    assert done.exit_code == 2
    assert "use pem or p7b" in done.stderr
    done = run("signing-ca", "download", "--output", str(tmp_path / "none" / "root.pem"))
    assert done.exit_code == 2
    assert "No such file or directory" in done.stderr


def test_openssl_accepts_the_downloaded_chain(run: Run, tmp_path: Path) -> None:
    for part in ("root", "intermediate"):
        run("signing-ca", "download", f"--{part}", "--output", str(tmp_path / f"{part}.pem"))
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "intermediate.pem"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "intermediate.pem: OK\n", done.stderr


# errors


def test_error_settings_are_set_shown_and_unset(run: Run) -> None:
    assert run("errors", "set", "untrusted", "allow").exit_code == 0
    rows = {row["row"]: row for row in json.loads(run("errors", "show", "--json").stdout)}
    assert rows["untrusted"] == {"row": "untrusted", "action": "allow", "set": True, "from": None}
    assert rows["self_signed"] == {"row": "self_signed", "action": "allow", "set": False, "from": "untrusted"}
    assert rows["expired"]["action"] == "block"
    told = [line.split() for line in run("errors", "show").stdout.splitlines()]
    assert ["untrusted", "allow", "set"] in told
    assert ["untrusted_root", "allow", "untrusted"] in told
    assert "is unset" in run("errors", "unset", "untrusted").stdout
    assert "was not set" in run("errors", "unset", "untrusted").stdout


def test_an_action_for_what_is_not_looked_for_says_so(run: Run, config: Path) -> None:
    assert "verification.revocation is off" in run("errors", "set", "revocation_unknown", "allow").stdout
    with config.open("a") as file:
        file.write("verification: {revocation: soft}\n")
    assert "verification.revocation" not in run("errors", "set", "revocation_unknown", "allow").stdout


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("nonsense", "allow"), "is no defect"),
        (("expired", "forgive"), "is no action"),
        (("own_ca", "allow"), "only block"),
        (("protocol", "allow"), "only block or bypass"),
    ],
)
def test_error_settings_that_cannot_be_are_refused(run: Run, args: tuple[str, str], reason: str) -> None:
    assert reason in refused(run, "errors", "set", *args)


def test_an_exception_for_a_host_is_made_listed_and_removed(run: Run) -> None:
    pin = "ab" * 32
    made = run(
        "errors", "except", "*.Printers.example", "--defect", "untrusted", "--action", "allow",
        "--fingerprint", pin.upper(), "--expires", "2999-12-31", "--reason", "no \u00fcber CA",
    )  # fmt: skip
    assert made.stdout == (
        "Tenant default: exception 1: untrusted of *.printers.example is set to allow, for the certificate or key "
        f"{pin}, until 2999-12-31 23:59 UTC.\n"
    )
    plain = run("errors", "except", "a.example", "--defect", "expired", "--action", "block", "--reason", "r", "--json")
    (first, second) = json.loads(run("errors", "exceptions", "--json").stdout)
    assert second == json.loads(plain.stdout)
    author, at = first.pop("created_by"), first.pop("created_at")
    assert author
    assert first == {
        "id": 1, "host": "*.printers.example", "defect": "untrusted", "action": "allow", "fingerprint": pin,
        "expires_at": "2999-12-31T23:59:59Z", "expired": False, "reason": "no \u00fcber CA",
    }  # fmt: skip
    assert (second["fingerprint"], second["expires_at"]) == (None, None)
    headings, *rows = [line.split("  ") for line in run("errors", "exceptions").stdout.splitlines()]
    told = [[cell.strip() for cell in row if cell.strip()] for row in (headings, *rows)]
    assert told[1] == [
        "1", "*.printers.example", "untrusted", "allow", "active", "2999-12-31 23:59", "abababababababab...", author,
        f"{at[:10]} {at[11:16]}", "no \u00fcber CA",
    ]  # fmt: skip
    assert told[2][4:7] == ["active", "no end", "any"]
    assert "those for a.example: 2 (expired)" in refused(run, "errors", "unexcept", "a.example")
    assert run("errors", "unexcept", "2").stdout == ("Tenant default: exception 2 (expired of a.example) is removed.\n")
    assert "has no exception 2" in refused(run, "errors", "unexcept", "2")
    assert run("errors", "unexcept", "1").exit_code == 0
    assert run("errors", "exceptions").stdout == "Tenant default has no exceptions.\n"


def test_an_exception_that_has_expired_is_listed_as_such(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("errors", "except", "a.example", "--defect", "expired", "--action", "allow", "--expires", "2999-12-31",
        "--reason", "r")  # fmt: skip
    monkeypatch.setattr("cli.clock.now", lambda: datetime(3000, 1, 1, tzinfo=UTC))
    assert "  expired  2999-12-31 23:59  " in run("errors", "exceptions").stdout
    assert json.loads(run("errors", "exceptions", "--json").stdout)[0]["expired"] is True


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("*", "--defect", "expired", "--action", "allow"), "sallyport errors set expired allow"),
        (("a b", "--defect", "expired", "--action", "allow"), "'a b' is no host pattern"),
        (("*.example", "--defect", "own_ca", "--action", "allow"), "only an exception for one host"),
        (("a.example", "--defect", "nonsense", "--action", "allow"), "is no defect"),
        (("a.example", "--defect", "expired", "--action", "forgive"), "is no action"),
        (("a.example", "--defect", "protocol", "--action", "allow"), "only block"),
        (("a.example", "--defect", "expired", "--action", "allow", "--expires", "2001-01-01"), "is over already"),
        (("a.example", "--defect", "expired", "--action", "allow", "--expires", "soon"), "'soon' is no date"),
        (("a.example", "--defect", "expired", "--action", "allow", "--fingerprint", "1"), "no SHA-256 fingerprint"),
    ],
)
def test_exceptions_that_cannot_be_are_refused(run: Run, args: tuple[str, ...], reason: str) -> None:
    assert reason in refused(run, "errors", "except", *args, "--reason", "because")


@pytest.mark.parametrize("missing", ["--defect", "--action", "--reason"])
def test_an_exception_without_what_it_needs_is_two(run: Run, missing: str) -> None:
    options = {"--defect": "expired", "--action": "allow", "--reason": "because"}
    del options[missing]
    done = run("errors", "except", "a.example", *(word for pair in options.items() for word in pair))
    assert done.exit_code == 2
    assert missing in done.stderr


# check-config


def test_check_config_shows_the_effective_settings(run: Run, config: Path) -> None:
    assert "is good" in run("check-config").stdout
    told = json.loads(run("check-config", "--json").stdout)
    assert told["ok"] is True
    assert told["file"] == str(config)
    assert told["settings"]["state_dir"] == str(config.parent / "state")
    assert told["settings"]["limits"]["connect_timeout"] == 10.0
    assert not (config.parent / "state").exists()


def test_check_config_reports_every_problem_with_its_line(run: Run, config: Path) -> None:
    config.write_text("state_dir: state\nworkerz: 1\nlisteners:\n  - {name: a, bind: nowhere}\nworkers: many\n")
    done = run("check-config")
    assert done.exit_code == 2
    assert done.stdout == ""
    places = [line.removeprefix(f"Error: {config}:").split(": ")[:2] for line in done.stderr.splitlines()]
    assert places == [["2", "workerz"], ["4", "listeners[0].bind"], ["5", "workers"]]
    told = json.loads(run("--json", "check-config").stdout)
    assert told["ok"] is False
    assert [problem["line"] for problem in told["problems"]] == [2, 4, 5]


def test_an_unusable_state_directory_is_two_and_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)
    done = run("tenant", "list")
    assert done.exit_code == 2
    assert "chmod 700" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "state").iterdir()) == []


def test_check_config_reads_the_common_store_too(run: Run, config: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    config.write_text("trust: {common_store: broken.pem}\n")
    done = run("check-config")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"Error: {config}: trust.common_store: {broken}: ")
    (problem,) = json.loads(run("check-config", "--json").stdout)["problems"]
    assert problem["path"] == "trust.common_store"


# what clients have pinned


def test_proposals_are_listed_and_dismissed(run: Run) -> None:
    assert run("bypass", "proposals").stdout == "No client refuses a host alone.\n"
    assert json.loads(run("bypass", "proposals", "--json").stdout) == []
    assert "nothing is known of app.example" in refused(run, "bypass", "dismiss", "app.example")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--create-key"], "needs --key-name KMIPNAME and --primary"),
        (["--public-key", "key.pem"], "needs --key-name KMIPNAME and --primary"),
        (["--alternate", "kms.example"], "needs --key-name KMIPNAME and --primary"),
        (["--key-name", "proxy-ca"], "are needed together"),
        (["--primary", "kms.example"], "are needed together"),
        (["--key-name", "k", "--primary", "kms.example", "--key-size", "2048"], "goes with --create-key"),
        (["--key-name", "k", "--primary", "kms.example", "--create-key", "--public-key", "f"], "does not go with"),
    ],
)
def test_what_a_request_on_a_key_elsewhere_needs_is_said(run: Run, given: list[str], said: str) -> None:
    done = run("signing-ca", "csr", "hsm", "--common-name", "Proxy CA", *given)
    assert done.exit_code == 2
    assert said in done.stderr


def test_a_request_on_a_key_elsewhere_needs_to_know_who_asks(run: Run) -> None:
    where = ("--key-name", "proxy-ca", "--primary", "kms.example", "--create-key")
    said = refused(run, "signing-ca", "csr", "hsm", "--common-name", "Proxy CA", *where)
    assert "has no client certificate for its key manager; see: sallyport kmip set" in said
