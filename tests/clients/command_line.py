"""curl, wget, git and openssl."""

from __future__ import annotations

import os

from tests.clients.base import TEXT, FailedError, Visit, client, commands, lines, options, variables
from tests.clients.origin import NAME

CURL = ("curl", "--silent", "--show-error", "--fail", "--max-time", "60")


@client(
    "curl",
    version=["curl", "--version"],
    explicit=options("--proxy http://{proxy}"),
    root=options("--cacert {root}"),
    refusal="unable to get local issuer certificate",
    note="For good, in `~/.curlrc`: `proxy = …` and `cacert = …`",
    cheap=True,
)
def curl(visit: Visit) -> str:
    return visit.run(*CURL, *visit.options, visit.url("/"))


@client(
    "curl, by the environment",
    version=["curl", "--version"],
    explicit=variables("https_proxy=http://{proxy}"),
    root=variables("CURL_CA_BUNDLE={root}"),
    refusal="unable to get local issuer certificate",
    cheap=True,
)
def curl_environment(visit: Visit) -> str:
    return visit.run(*CURL, visit.url("/"))


@client(
    "wget",
    version=["wget", "--version"],
    explicit=lines("~/.wgetrc", "https_proxy = http://{proxy}/"),
    root=lines("~/.wgetrc", "ca_certificate = {root}"),
    refusal="is not trusted",
    with_openssl="Unable to locally verify the issuer's authority",
    cheap=True,
)
def wget(visit: Visit) -> str:
    return visit.run(
        "wget", "--no-verbose", "--no-hsts", "--tries=1", "--timeout=60", "--output-document=-", visit.url("/")
    )


@client(
    "git",
    version=["git", "--version"],
    explicit=commands("git config --global http.proxy http://{proxy}"),
    root=commands("git config --global http.sslCAInfo {root}"),
    refusal="server certificate verification failed",
    with_openssl="unable to get local issuer certificate",
    note="Cloned, and pushed to. Repositories over SSH know nothing of either",
    cheap=True,
)
def git(visit: Visit) -> str:
    visit.run("git", "clone", "--quiet", visit.url(f"/git/{NAME}.git"), NAME)
    # More than http.postBuffer holds (1 MiB) is sent without saying how much there is.
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@clients.example"]
    large = visit.home / NAME / "large"
    large.write_bytes(os.urandom(3 << 20))
    visit.run("git", "-C", NAME, "add", "large")
    visit.run("git", "-C", NAME, *who, "commit", "--quiet", "--message", "Another file")
    visit.run("git", "-C", NAME, "push", "--quiet", "origin", f"HEAD:refs/heads/{visit.host}")
    return (visit.home / NAME / f"{NAME}.txt").read_text()


@client(
    "openssl",
    version=["openssl", "version"],
    explicit=options("-proxy {proxy}"),
    root=options("-CAfile {root}"),
    refusal="unable to get local issuer certificate",
    note="`s_client`, to look at what the proxy shows",
    cheap=True,
)
def openssl(visit: Visit) -> str:
    where = f"{visit.host}:{visit.origin.port}"
    request = f"GET / HTTP/1.1\r\nHost: {where}\r\nConnection: close\r\n\r\n"
    command = ("openssl", "s_client", "-quiet", "-verify_return_error", "-connect", where, "-servername", visit.host)
    _, _, body = visit.run(*command, *visit.options, stdin=request).partition("\n\n")
    if body != TEXT:
        raise FailedError(body)
    return body
