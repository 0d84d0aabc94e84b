"""The fake key manager as a process: it signs with cryptography, and hangs when it is told to by a signal.

``python -m bench.kmip.fake FOLDER PORT``; the folder holds its certificate, its clients' CA and the key.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from tests.harness.kmip_fake import Answer, Asked, FakeKmip
from tests.harness.pki import Authority, Issued

SILENT, NO_SIGNATURE, WELL = signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP
"""From now on it answers nothing; everything but SIGN; everything again."""


class Behaviour:
    """What it answers (the file ``behaves`` has the last signal), and how often it was asked to sign: ``signed``."""

    def __init__(self, folder: Path) -> None:
        self.now = WELL
        self._behaves = folder / "behaves"
        self._signed = (folder / "signed").open("ab", buffering=0)

    def from_now_on(self, number: signal.Signals) -> None:
        """Behave so."""
        self.now = number
        self._behaves.write_text(str(number.value))

    def __call__(self, asked: Asked) -> Answer:
        asked.fake.asked.clear()  # nobody looks at them here, and there are many
        signs = asked.operation.name == "SIGN"
        if signs:
            self._signed.write(b".")
        if self.now is SILENT or (self.now is NO_SIGNATURE and signs):
            return None
        return asked.as_it_should()


async def serve(folder: Path, port: int) -> None:
    """Until killed."""
    key = load_pem_private_key((folder / "signing.key").read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("a key of another kind")
    clients = _read(folder / "clients.pem", folder / "server.key", Authority)
    fake = FakeKmip(_read(folder / "server.pem", folder / "server.key", Issued), clients, key)
    fake.port = port
    behaviour = Behaviour(folder)
    loop = asyncio.get_running_loop()
    for number in (SILENT, NO_SIGNATURE, WELL):
        loop.add_signal_handler(number, behaviour.from_now_on, number)
    for operation in fake.operations:
        fake.on[operation] = behaviour
    await fake.start()
    (folder / "port.new").write_text(str(fake.port))
    (folder / "port.new").rename(folder / "port")
    await asyncio.Event().wait()


def _read[A: Issued](certificate: Path, key: Path, kind: type[A]) -> A:
    """Of the CA only the certificate counts."""
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    return kind(made.public_bytes(Encoding.DER), load_pem_private_key(key.read_bytes(), None), made.subject)  # type: ignore[arg-type] # of a kind that was written there


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
