"""What a person does on each system so that it trusts a root certificate, in words and commands.

The words are for whoever shows them: the proxy's own page, the console, documentation. They name the file that a system
takes by its name in :data:`certs.download.FILES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. ``command`` has one line for each command to type, and may hold :func:`filled`'s places."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """How one system, or one program that has a trust store of its own, is told of a root."""

    key: str
    """In the page's address: lower-case letters."""
    title: str
    file: str
    """The file that it takes, a key of :data:`certs.download.FILES`."""
    steps: tuple[Step, ...]
    note: str = ""
    """What surprises people there."""


_SAVE = "{fetch} -o sallyport-root.pem {site}/root.pem"
_EVERYWHERE = "/etc/ssl/certs/ca-certificates.crt"

GUIDES: tuple[Guide, ...] = (
    Guide(
        "windows",
        "Windows",
        "root.cer",
        (
            Step("Download the certificate and open it."),
            Step("Choose Install Certificate, then Local Machine (an administrator has to agree)."),
            Step(
                "Choose “Place all certificates in the following store”, Browse, and Trusted Root Certification "
                "Authorities. Finish."
            ),
            Step("Or, as administrator, in a terminal:", "certutil -addstore -f Root sallyport-root.cer"),
        ),
        "Edge and Chrome go by this store, and Firefox does from version 120 on. In a domain, group policy does it for "
        "all devices.",
    ),
    Guide(
        "macos",
        "macOS",
        "root.cer",
        (
            Step("Download the certificate and open it: Keychain Access asks where to add it. Choose System."),
            Step("Find it there, open it, unfold Trust, and choose Always Trust. Close the window."),
            Step(
                "Or in a terminal:",
                "sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain "
                "~/Downloads/sallyport-root.cer",
            ),
        ),
        "Safari, Chrome and Edge go by the keychain, and Firefox does from version 120 on. Managed Macs get the "
        "configuration profile.",
    ),
    Guide(
        "ios",
        "iPhone and iPad",
        "root.mobileconfig",
        (
            Step("Download the profile in Safari, and allow it."),
            Step("Open Settings, choose Profile Downloaded, and Install."),
            Step(
                "Open Settings, General, About, Certificate Trust Settings, and switch the certificate on. Without "
                "this last step it is installed and not trusted."
            ),
        ),
        "On devices that are managed, the organisation's profile switches the trust on by itself.",
    ),
    Guide(
        "android",
        "Android",
        "root.crt",
        (
            Step("Download the certificate."),
            Step(
                "Open Settings, Security and privacy, More security settings, Encryption and credentials, Install a "
                "certificate, CA certificate. (Some makers put it elsewhere: search the settings for “CA certificate”.)"
            ),
            Step("Choose Install anyway, and pick the file."),
        ),
        "Chrome goes by it. Many apps trust only the CAs that Android brings along: they need a bypass rule for their "
        "servers, or a managed device.",
    ),
    Guide(
        "debian",
        "Debian and Ubuntu",
        "root.pem",
        (
            Step(
                "In a terminal (the file's name has to end in .crt):",
                "{fetch} -o sallyport-root.crt {site}/root.pem\n"
                "sudo install -m 644 sallyport-root.crt /usr/local/share/ca-certificates/\n"
                "sudo update-ca-certificates",
            ),
        ),
        "curl, git, wget, apt and most programs go by this store; Firefox, Chromium, Java, Node.js and Python's "
        "requests have one of their own.",
    ),
    Guide(
        "fedora",
        "Fedora and Red Hat",
        "root.pem",
        (
            Step(
                "In a terminal:",
                "{fetch} -o sallyport-root.pem {site}/root.pem\n"
                "sudo install -m 644 sallyport-root.pem /etc/pki/ca-trust/source/anchors/\n"
                "sudo update-ca-trust",
            ),
        ),
        "Firefox and Java from the distribution go by this store too; Chromium, Node.js and Python's requests have "
        "one of their own.",
    ),
    Guide(
        "firefox",
        "Firefox",
        "root.pem",
        (
            Step("Download the certificate."),
            Step("Open Settings, Privacy and Security, Certificates, View Certificates, Authorities, Import."),
            Step("Pick the file, tick “Trust this CA to identify websites”, and confirm."),
        ),
        "On Windows and macOS it goes by the system's store from version 120 on, and needs nothing of its own.",
    ),
    Guide(
        "chromium",
        "Chromium and Chrome on Linux",
        "root.pem",
        (
            Step(
                "In a terminal (certutil is in libnss3-tools or nss-tools):",
                f"{_SAVE}\n"
                "mkdir -p ~/.pki/nssdb\n"
                "certutil -d sql:$HOME/.pki/nssdb -A -n sallyport -t C,, -i sallyport-root.pem",
            ),
        ),
        "On other systems they go by the system's store.",
    ),
    Guide(
        "java",
        "Java",
        "root.pem",
        (
            Step(
                "In a terminal, with the keytool of the Java that is used:",
                f"{_SAVE}\n"
                "keytool -importcert -noprompt -cacerts -storepass changeit -alias sallyport -file sallyport-root.pem",
            ),
        ),
        "Debian's Java goes by the system's store, and has it by update-ca-certificates.",
    ),
    Guide(
        "python",
        "Python (requests and pip)",
        "root.pem",
        (
            Step("Put the root into the system's store first. Then point requests and pip at that:"),
            Step(
                "On Debian and Ubuntu:",
                f"export REQUESTS_CA_BUNDLE={_EVERYWHERE}\npip config set global.cert {_EVERYWHERE}",
            ),
            Step(
                "On Fedora and Red Hat:",
                "export REQUESTS_CA_BUNDLE=/etc/pki/tls/certs/ca-bundle.crt\n"
                "pip config set global.cert /etc/pki/tls/certs/ca-bundle.crt",
            ),
        ),
        "requests brings CAs of its own (certifi). pip looks at the system's store from version 24.2 on.",
    ),
    Guide(
        "node",
        "Node.js and npm",
        "root.pem",
        (
            Step("In a terminal:", f"{_SAVE}\nexport NODE_EXTRA_CA_CERTS=$PWD/sallyport-root.pem"),
            Step("Or, where the system's store has the root:", "export NODE_USE_SYSTEM_CA=1"),
        ),
        "NODE_USE_SYSTEM_CA takes Node.js 22.19 or 24.6.",
    ),
    Guide(
        "git",
        "Git",
        "root.pem",
        (
            Step("On Linux and macOS it goes by the system's store: nothing more is needed."),
            Step("On Windows, let it go by the system's store:", "git config --global http.sslBackend schannel"),
            Step(
                "Or name the file:",
                f"{_SAVE}\ngit config --global http.sslCAInfo $PWD/sallyport-root.pem",
            ),
        ),
    ),
    Guide(
        "curl",
        "curl",
        "root.pem",
        (
            Step("It goes by the system's store on Linux. For once, or in a script:"),
            Step("", f"{_SAVE}\ncurl --cacert sallyport-root.pem https://example.com/"),
            Step("For good, in ~/.curlrc:", 'cacert = "/home/me/sallyport-root.pem"'),
        ),
        "The curl that comes with Windows goes by the system's store, too.",
    ),
    Guide(
        "docker",
        "Docker",
        "root.pem",
        (
            Step(
                "What pulls images goes by the host's store. After the root is there:", "sudo systemctl restart docker"
            ),
            Step(
                "An image has a store of its own. In its Dockerfile (Debian, Ubuntu), with the file beside it:",
                "COPY sallyport-root.pem /usr/local/share/ca-certificates/sallyport.crt\nRUN update-ca-certificates",
            ),
        ),
    ),
)

_BY_KEY = {guide.key: guide for guide in GUIDES}

_SIGNS: Sequence[tuple[str, str]] = (
    # Programs first: they name no system, or one that does not matter.
    ("python-requests/", "python"),
    ("pip/", "python"),
    ("python-urllib", "python"),
    ("npm/", "node"),
    ("node", "node"),
    ("git/", "git"),
    ("curl/", "curl"),
    ("docker/", "docker"),
    ("java/", "java"),
    # An iPhone says "like Mac OS X", and Android says "Linux".
    ("iphone", "ios"),
    ("ipad", "ios"),
    ("ipod", "ios"),
    ("android", "android"),
    ("windows", "windows"),
    ("macintosh", "macos"),
    ("mac os x", "macos"),
    # On Linux the browsers have stores of their own, and a person who looks at this is in one.
    ("firefox/", "firefox"),
    ("chrome/", "chromium"),
    ("fedora", "fedora"),
    ("red hat", "fedora"),
)
_LONGEST_AGENT = 512
"""Characters of a User-Agent that are looked at."""


def guide(key: str) -> Guide | None:
    """The guide of that key; None where there is none."""
    return _BY_KEY.get(key)


def guide_for(user_agent: str) -> Guide:
    """The guide for who says this of himself (RFC 9110, section 10.1.5). It is a guess, and nothing hangs on it."""
    text = user_agent[:_LONGEST_AGENT].lower()
    return _BY_KEY[next((key for sign, key in _SIGNS if sign in text), "debian" if "linux" in text else "windows")]


def filled(command: str, site: str, proxy: str) -> str:
    """A command of a step with its places filled: the address of the page, and of the proxy where one is set.

    ``site`` has no slash at its end; ``proxy`` is a URL as curl takes it, "" where the network leads through the proxy.
    """
    fetch = f"curl -fsS --proxy {proxy}" if proxy else "curl -fsS"
    return command.replace("{fetch}", fetch).replace("{site}", site)
