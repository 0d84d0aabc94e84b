"""Chromium, without a window."""

from __future__ import annotations

from tests.clients.base import TEXT, FailedError, Visit, client, commands, options


@client(
    "Chromium",
    version=["chromium", "--version"],
    explicit=options("--proxy-server=http://{proxy}"),
    root=commands(
        "mkdir -p ~/.pki/nssdb",
        "certutil -d sql:$HOME/.pki/nssdb -N --empty-password",
        "certutil -d sql:$HOME/.pki/nssdb -A -n sallyport -t C,, -i {root}",
    ),
    system=None,
    refusal="ERR_CERT_AUTHORITY_INVALID",
    note="On Linux. Where it has run before, the database is there, and the last command is enough",
    needs=["certutil"],
)
def chromium(visit: Visit) -> str:
    quiet = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
    )
    # It ends with 0 whatever came, and says on its standard error what did.
    said = visit.run("sh", "-c", '"$@" 2>&1', "sh", "chromium", *quiet, *visit.options, "--dump-dom", visit.url("/"))
    if TEXT not in said:
        raise FailedError(said)
    return TEXT
