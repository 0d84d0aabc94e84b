"""Package managers: pip, npm and apt."""

from __future__ import annotations

from tests.clients.base import Visit, client, commands, lines, variables
from tests.clients.origin import NAME


@client(
    "pip",
    version=["pip", "--version"],
    explicit=commands("pip config set global.proxy http://{proxy}"),
    root=commands("pip config set global.cert {root}"),
    refusal="CERTIFICATE_VERIFY_FAILED",
    note="`--proxy` and `--cert` do the same for once. It looks at the system's store from 24.2 on",
    cheap=True,
)
def pip(visit: Visit) -> str:
    quiet = ("--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries", "0")
    index = ("--index-url", visit.url("/simple/"))
    visit.run("pip", "install", *quiet, *index, "--target", str(visit.home / "into"), NAME)
    return (visit.home / "into" / f"{NAME}.txt").read_text()


@client(
    "npm",
    version=["npm", "--version"],
    explicit=commands("npm config set https-proxy http://{proxy}"),
    root=commands("npm config set cafile {root}"),
    system=variables("NODE_USE_SYSTEM_CA=1"),
    refusal="unable to get local issuer certificate",
    note="`HTTPS_PROXY` and `NODE_EXTRA_CA_CERTS` do as well. For the system's store it takes Node.js 22.19 or 24.6",
)
def npm(visit: Visit) -> str:
    visit.origin.publish_node_package(visit.host)
    registry = f"--registry={visit.url(f'/npm/{visit.host}/')}"
    visit.run("npm", "install", registry, "--no-audit", "--no-fund", "--no-update-notifier", "--fetch-retries=0", NAME)
    return (visit.home / "node_modules" / NAME / "index.js").read_text()


@client(
    "apt",
    version=["apt-get", "--version"],
    explicit=lines("/etc/apt/apt.conf.d/80proxy", 'Acquire::https::Proxy "http://{proxy}";'),
    root=lines("/etc/apt/apt.conf.d/80proxy", 'Acquire::https::CAInfo "{root}";'),
    refusal="The certificate issuer is unknown",
    note="Updated from, and downloaded from. The root's file has to be readable for the user `_apt`",
    needs=["dpkg-deb"],
)
def apt(visit: Visit) -> str:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (visit.home / folder).mkdir(parents=True)
    (visit.home / "sources.list").write_text(f"deb [trusted=yes] {visit.url('/apt')} ./\n")
    (visit.home / "status").touch()
    # All that it reads and writes is in the home folder, so that the machine's own packages are left alone.
    places = {
        "Dir::Etc::Parts": visit.home / "etc/apt/apt.conf.d",
        "Dir::Etc::Main": "/dev/null",
        "Dir::Etc::SourceList": visit.home / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State": visit.home / "state",
        "Dir::State::Status": visit.home / "status",
        "Dir::Cache": visit.home / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "APT::Update::Error-Mode": "any",
    }
    own = visit.home / "own.conf"
    own.write_text("".join(f'{name} "{value}";\n' for name, value in places.items()))
    visit.run("apt-get", "--quiet", "update", APT_CONFIG=str(own))
    visit.run("apt-get", "--quiet", "download", NAME, APT_CONFIG=str(own))
    (package,) = visit.home.glob("*.deb")
    visit.run("dpkg-deb", "--extract", str(package), "out")
    return (visit.home / "out/usr/share" / NAME / f"{NAME}.txt").read_text()
