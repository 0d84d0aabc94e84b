from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from config.settings import Settings
from control import built_in
from control.errors import InstallationError, Refused
from control.installation import Installation, publish_root
from kms.envelope import SealError, TenantKey
from store import changes, signing_cas, tenants
from tests.control.conftest import last_change
from tests.harness.pki import DAY, NOW

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, without what SQLite's readers leave beside the database."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def refused(settings: Settings, *parts: str) -> None:
    """It does not open, says why in one line that has these parts, and changes nothing."""
    before = files(settings.state_dir.parent)
    with pytest.raises(InstallationError) as caught:
        Installation.open(settings, NOW)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text
    assert files(settings.state_dir.parent) == before


def test_the_first_use_makes_everything(settings: Settings) -> None:
    before = os.umask(0)
    try:
        with Installation.open(settings, NOW) as inst:
            publish_root(inst, "default")
            modes = {
                str(path.relative_to(settings.state_dir)): stat.S_IMODE(path.stat().st_mode)
                for path in settings.state_dir.rglob("*")
            }
            with inst.store.reading() as c:
                (tenant,) = tenants.listing(c)
                active = signing_cas.active(c, tenant.id)
                (change,) = changes.since(c, 0)
    finally:
        os.umask(before)
    assert stat.S_IMODE(settings.state_dir.stat().st_mode) == 0o700
    assert {name for name, mode in modes.items() if mode != 0o600} == {"certs"}
    assert modes["certs"] == 0o700
    assert {"master.key", "sallyport.db", "sallyport.db-wal", "sallyport.db-shm", "certs/default-root.pem"} <= set(
        modes
    )
    assert (tenant.name, tenant.generation, tenant.created_at) == ("default", 1, NOW)
    assert active is not None
    assert (active.name, active.kind, active.status, len(active.chain)) == ("built-in", "built_in", "active", 2)
    assert (change.kind, change.tenant_id, change.generation) == ("tenant_created", tenant.id, 1)
    assert len(inst.name) == 16


def test_the_next_use_finds_the_same(settings: Settings) -> None:
    with Installation.open(settings, NOW) as first:
        root = publish_root(first, "default").read_bytes()
    with Installation.open(settings, NOW + DAY) as second:
        assert second.name == first.name
        assert publish_root(second, "default").read_bytes() == root
        assert last_change(second) == 1


def test_two_installations_share_nothing(tmp_path: Path) -> None:
    roots, names = set(), set()
    for folder in ("one", "two"):
        with Installation.open(Settings(state_dir=tmp_path / folder), NOW) as inst:
            roots.add(publish_root(inst, "default").read_bytes())
            names.add(inst.name)
    assert len(roots) == len(names) == 2


def test_a_default_tenant_that_was_deleted_is_not_made_again(inst: Installation, settings: Settings) -> None:
    with inst.store.transaction() as c:
        tenants.delete(c, tenants.listing(c)[0].id)
    with Installation.open(settings, NOW) as again, again.store.reading() as c:
        assert tenants.listing(c) == []


def test_no_byte_of_a_private_key_is_in_the_state_directory(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = built_in.make_built_in
    monkeypatch.setattr(built_in, "make_built_in", lambda *arguments: made.append(real(*arguments)) or made[-1])
    keys = []
    generate = TenantKey.generate
    monkeypatch.setattr(TenantKey, "generate", staticmethod(lambda: keys.append(generate()) or keys[-1]))
    with Installation.open(settings, NOW):
        content = b"".join(files(settings.state_dir).values())
        content += b"".join(path.read_bytes() for path in settings.state_dir.glob("*-wal"))
    (authority,), (tenant_key,) = made, keys
    for key in (authority.root_key, authority.intermediate_key):
        der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        number = key.private_numbers().private_value
        scalar = number.to_bytes((key.key_size + 7) // 8, "big")
        assert scalar in der  # what is searched for is what is there
        for secret in (
            der,
            scalar,
            scalar[:16],
            scalar[-16:],
            scalar[::-1],
            pem.splitlines()[1],
            scalar.hex().encode(),
        ):
            assert secret not in content
    assert tenant_key.raw not in content
    assert tenant_key.raw.hex().encode() not in content
    assert b"PRIVATE KEY" not in content
    # and the certificates, which are no secret, are found in the same bytes
    assert b"sallyport master key 1" in content


def test_the_sealed_keys_open_with_the_tenants_key_alone_and_fit_their_certificates(inst: Installation) -> None:
    with inst.store.reading() as c:
        (tenant,) = tenants.listing(c)
        active = signing_cas.active(c, tenant.id)
        assert active is not None
        wrapped, sealed = tenants.wrapped_key(c, tenant.id), signing_cas.sealed_key(c, active.id)
    key = TenantKey(inst.provider.unwrap(wrapped, "default"))
    private = load_der_private_key(key.open("default", "signing-ca-key", sealed), None)
    issuing = x509.load_der_x509_certificate(active.certificate)
    spki = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert private.public_key().public_bytes(*spki) == issuing.public_key().public_bytes(*spki)
    for tenant_name, purpose in (("default", "signing-ca-root-key"), ("other", "signing-ca-key")):
        with pytest.raises(SealError):
            key.open(tenant_name, purpose, sealed)


def test_an_rsa_installation_has_rsa_keys(tmp_path: Path) -> None:
    settings = Settings.model_validate({"state_dir": str(tmp_path / "var"), "signing": {"built_in": "rsa"}})
    with Installation.open(settings, NOW) as inst, inst.store.reading() as c:
        active = signing_cas.active(c, 1)
    assert active is not None
    sizes = [x509.load_der_x509_certificate(der).public_key().key_size for der in active.chain]  # type: ignore[union-attr]  # RSA has a size
    assert sizes == [3072, 4096]


# A state directory that cannot be used


def test_a_file_in_its_place_is_refused(settings: Settings) -> None:
    settings.state_dir.write_text("mine")
    refused(settings, str(settings.state_dir), "not a folder")


@pytest.mark.parametrize("mode", [0o750, 0o755, 0o701, 0o777])
def test_a_folder_that_is_open_to_others_is_refused(settings: Settings, mode: int) -> None:
    settings.state_dir.mkdir()
    settings.state_dir.chmod(mode)
    refused(settings, f"mode {mode:04o}", f"chmod 700 {settings.state_dir}")


def test_another_users_folder_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.state_dir.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    refused(settings, "belongs to user", "runs as user 4321")


def test_a_folder_that_cannot_be_written_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.state_dir.mkdir(mode=0o500)
    if os.getuid() == 0:  # root may write everywhere; what is tested is the answer
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    refused(settings, "cannot be written", f"chmod 700 {settings.state_dir}")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(Settings(state_dir=tmp_path / "file" / "var"), "state_dir")


def test_a_dangling_link_is_refused(settings: Settings, tmp_path: Path) -> None:
    settings.state_dir.symlink_to(tmp_path / "nowhere")
    refused(settings, str(settings.state_dir))


# A master key that is not the database's


def test_a_missing_master_key_is_never_replaced_beside_a_database(inst: Installation, settings: Settings) -> None:
    inst.close()
    (settings.state_dir / "master.key").unlink()
    refused(settings, "master.key", "missing", "backup")


def test_a_missing_master_key_is_not_replaced_beside_a_database_that_was_never_finished(settings: Settings) -> None:
    settings.state_dir.mkdir(mode=0o700)
    (settings.state_dir / "sallyport.db").touch(0o600)
    refused(settings, "master.key", "missing")


def test_a_corrupt_master_key_is_refused(inst: Installation, settings: Settings) -> None:
    inst.close()
    key = settings.state_dir / "master.key"
    key.write_bytes(key.read_bytes()[:-5] + b"\n")
    refused(settings, str(key), "damaged")


def test_the_master_key_of_another_installation_is_refused(
    inst: Installation, settings: Settings, tmp_path: Path
) -> None:
    inst.close()
    Installation.open(Settings(state_dir=tmp_path / "other"), NOW).close()
    shutil.copy(tmp_path / "other" / "master.key", settings.state_dir / "master.key")
    refused(settings, "master.key", "not the one of the database", "backup")


def test_a_newer_database_is_refused(inst: Installation, settings: Settings) -> None:
    inst.close()
    connection = sqlite3.connect(settings.state_dir / "sallyport.db")
    connection.execute("UPDATE alembic_version SET version_num = '0999'")
    connection.commit()
    connection.close()
    refused(settings, "newer Sallyport (revision 0999)")


def test_a_damaged_database_is_refused(inst: Installation, settings: Settings) -> None:
    inst.close()
    (settings.state_dir / "sallyport.db").write_bytes(b"no database" * 1000)
    refused(settings, "sallyport.db", "restore a backup")


# Several processes, and crashes

OPEN = """
import sys, pathlib, datetime
from config.settings import Settings
from control.installation import Installation
sys.stdin.readline()
settings = Settings(state_dir=pathlib.Path(sys.argv[1]))
with Installation.open(settings, datetime.datetime.fromisoformat(sys.argv[2])) as inst:
    sys.stdout.write(inst.name)
"""


def test_processes_that_open_a_fresh_folder_at_once_get_one_installation(settings: Settings) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(settings.state_dir), NOW.isoformat()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate(timeout=90) for process in processes]
    assert [errors for _, errors in results] == [""] * 4
    assert len({name for name, _ in results}) == 1
    with Installation.open(settings, NOW) as inst, inst.store.reading() as c:
        assert [tenant.name for tenant in tenants.listing(c)] == ["default"]
        assert [change.kind for change in changes.since(c, 0)] == ["tenant_created"]
        assert inst.name == results[0][0]


KILL = """
import os, signal, sys, pathlib, datetime
{target}
def die(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)
{patch}
from config.settings import Settings
from control.installation import Installation
Installation.open(Settings(state_dir=pathlib.Path(sys.argv[1])), datetime.datetime.fromisoformat(sys.argv[2]))
"""


@pytest.mark.parametrize(
    ("target", "patch"),
    [
        ("import kms.providers.local as m", "m._create = die"),
        ("import kms.providers.local as m", "real = m._create; m._create = lambda path: (real(path), die())"),
        ("import store.migrations.run as m", "m.upgrade = die"),
        ("import store.migrations.run as m", "real = m.upgrade; m.upgrade = lambda path: (real(path), die())"),
        ("import control.built_in as m", "m.make_built_in = die"),
        ("import store.tenants as m", "m.create = die"),
        ("import store.changes as m", "m.announce = die"),
    ],
    ids=[
        "before the key",
        "after the key",
        "before the tables",
        "after the tables",
        "before the CA",
        "in the save",
        "at its end",
    ],
)
def test_a_first_start_that_was_killed_is_completed_by_the_next(settings: Settings, target: str, patch: str) -> None:
    code = KILL.format(target=target, patch=patch)
    arguments = [sys.executable, "-c", code, str(settings.state_dir), NOW.isoformat()]
    killed = subprocess.run(arguments, cwd=ROOT, check=False, capture_output=True, text=True)
    assert killed.returncode == -9, killed.stderr
    with Installation.open(settings, NOW) as inst, inst.store.reading() as c:
        assert [tenant.name for tenant in tenants.listing(c)] == ["default"]
        assert signing_cas.active(c, tenants.listing(c)[0].id) is not None
        assert changes.latest(c) == 1


# The published root


def test_the_published_root_is_the_active_cas(inst: Installation, settings: Settings) -> None:
    path = publish_root(inst, "default")
    assert path == settings.state_dir / "certs" / "default-root.pem"
    (root,) = x509.load_pem_x509_certificates(path.read_bytes())
    assert root.subject == root.issuer
    with inst.store.reading() as c:
        active = signing_cas.active(c, 1)
    assert active is not None
    assert root.public_bytes(Encoding.DER) == active.chain[-1]
    assert [file.name for file in path.parent.iterdir()] == ["default-root.pem"]


def test_what_has_no_root_is_refused(inst: Installation) -> None:
    with pytest.raises(Refused, match="no tenant 'nobody'; tenants: default"):
        publish_root(inst, "nobody")


def test_a_root_that_cannot_be_written_is_an_error_of_one_line(inst: Installation, settings: Settings) -> None:
    (settings.state_dir / "certs").touch()
    with pytest.raises(InstallationError, match=r"default-root\.pem: the root certificate cannot be written"):
        publish_root(inst, "default")
