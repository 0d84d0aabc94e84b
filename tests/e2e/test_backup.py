"""What docs/operations.md says of backup and restore, done: the machine is lost, and another takes its place."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.e2e.conftest import PRIVATE, PRIVATE_ISSUING, PUBLIC
from tests.harness.curl import curl
from tests.harness.daemon import Daemon
from tests.harness.origins import Nginx

HOSTS = {"good.example": "127.0.0.1", "private.example": "127.0.0.1"}


def test_a_lost_machine_is_replaced_by_what_was_saved_while_it_worked(origin: Nginx, tmp_path: Path) -> None:
    saved, key, bundle = tmp_path / "sallyport-backup.db", tmp_path / "sallyport-master.key", tmp_path / "company.pem"
    bundle.write_bytes(PRIVATE_ISSUING.pem() + PRIVATE.pem())
    private, good = origin["private.example"].url(), origin["good.example"].url()
    with Daemon(tmp_path / "lost", hosts=HOSTS, common=PUBLIC) as lost:
        lost.told("trusted-ca", "add", "company", str(bundle))
        lost.told("errors", "set", "expired", "allow")
        assert curl(lost, good).status == 200
        told = lost.told("backup", str(saved))
        assert "master.key" in told
        lost.told("backup", str(tmp_path / "again.db"), "--key", str(key))
        root = lost.root.read_bytes()
        refused = lost.cli("restore", str(saved))
        assert refused.returncode == 1
        assert "another Sallyport" in refused.stderr
        # It is in nobody's way; the commands may have been quicker than the worker's next look at the store.
        assert lost.within(1, lambda: curl(lost, private).status == 200)[0]
        lost.kill()
    shutil.rmtree(lost.state_dir)

    with Daemon(tmp_path / "new", hosts=HOSTS, common=PUBLIC, first=True) as new:  # somebody has started it before
        assert curl(new, private).status == 502
        new.stop()
        without = new.cli("restore", str(saved))
        assert without.returncode == 1
        assert "this master key is not the one of the database" in without.stderr
        told = new.told("restore", str(saved), "--key", str(key))
        assert told.startswith(f"Restored into {new.state_dir}; tenants: default\n")
        assert told.count("is kept as") == 2
        new.start()
        assert new.told("signing-ca", "download", "--root").encode() == root
        # Clients that trust the lost machine's root reach the same servers as before.
        new.root.write_bytes(root)
        assert [curl(new, url).status for url in (good, private)] == [200, 200]
        assert "allow" in new.told("errors", "show")
