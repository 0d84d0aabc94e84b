"""From a file to :class:`config.settings.Settings`: which file, its values, and every problem at once with its line."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError

from config.common_store import StoreFileError, check
from config.document import LARGEST_FILE, Document, Plain, read
from config.list_files import ListFileError, look
from config.problems import ConfigError, Problem
from config.settings import (
    OWN_PORTS,
    SHIPPED_INSPECTORS,
    STORES_BY_NAME,
    Listener,
    ListenerTls,
    Settings,
    listener_clashes,
    parse_bind,
    unknown_listeners,
)
from config.wording import explain

DEFAULT_FILE = Path(__file__).with_name("default.yaml")
"""The commented defaults that ship with the package; used where no other file is named or found."""
VARIABLE = "SALLYPORT_CONFIG"
LOCAL_FILE = "sallyport.yaml"
PARENT_FILES = ("password_file", "ca_file")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, every path in them absolute, and the file that they are from."""

    settings: Settings
    path: Path


def load(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Loaded:
    """Read the configuration: ``path``, else $SALLYPORT_CONFIG, else ./sallyport.yaml, else the packaged default.

    ``state_dir`` and the files that are named come back absolute; relative ones are taken from
    the folder of the file, for the packaged default from ``cwd``. Nothing is created or changed.
    Raises ConfigError with every problem that was found.
    """
    file = _choose(path, environ, cwd)
    document = read(str(file), _bytes(file))
    settings = _validate(document)
    if settings is not None:
        settings = _resolve(settings, cwd if _is_default(file) else file.parent)
        _check_files(settings, document)
    if document.problems or settings is None:
        raise ConfigError(file, document.problems)
    return Loaded(settings, file)


def describe(settings: Settings) -> dict[str, Any]:
    """The effective settings as plain types, as ``check-config --json`` prints them; loads back to the same."""
    return settings.model_dump(mode="json")


def _choose(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Path:
    if path is not None:
        return cwd / path
    if named := environ.get(VARIABLE):
        return cwd / named
    local = cwd / LOCAL_FILE
    # One that is there and can't be read is an error, never a reason to start with the defaults.
    return local if os.path.lexists(local) else DEFAULT_FILE


def _is_default(file: Path) -> bool:
    return file.resolve() == DEFAULT_FILE.resolve()


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            # One byte more than is taken, so that read() can tell; a device never ends.
            return stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        message = "no such file; name one with --config or SALLYPORT_CONFIG"
    except IsADirectoryError:
        message = "this is a folder; expected a YAML file"
    except PermissionError:
        message = "permission denied; the user who runs sallyport must be able to read it"
    except (OSError, ValueError) as error:
        message = f"can't be read: {getattr(error, 'strerror', None) or error}"
    raise ConfigError(file, [Problem("", message)])


def _validate(document: Document) -> Settings | None:
    """The settings, or None with the problems noted in the document."""
    settings = None
    try:
        settings = Settings.model_validate(document.values)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            location = error["loc"]
            # Where a problem is noted already, what pydantic says about the None in its place helps nobody. Errors of
            # the whole, which have no location, are looked for below, where all are found.
            if location and location not in document.spoiled:
                document.add(location, explain(error, document.written.get(location)))
    # Pydantic looks at the whole only where every part is right; a person wants to hear of both at once.
    places = _names_and_binds(document.values.get("listeners"))
    udp = _over_udp(document.values.get("listeners"))
    everywhere = [*places, *((None, _own_bind(name, document.values.get(name))) for name in OWN_PORTS)]
    for position, key, message in listener_clashes(everywhere, udp, OWN_PORTS):
        count = len(places)
        document.add(("listeners", position, key) if position < count else (OWN_PORTS[position - count], key), message)
    onboarding = document.values.get("onboarding")
    addresses = onboarding.get("addresses") if isinstance(onboarding, dict) else None
    names = [name for name, _ in places or ((one.name, None) for one in Settings().listeners)]
    for name, message in unknown_listeners(names, [*addresses] if isinstance(addresses, dict) else ()):
        document.add(("onboarding", "addresses", name), message)
    return settings


def _own_bind(name: str, section: Plain) -> str | None:
    """Where a section's part listens; None where it does not, or the value is wrong by itself."""
    mapping = section if isinstance(section, dict) else {}
    bind = mapping.get("bind", Settings.model_fields[name].default.bind)
    return bind if mapping.get("enabled", True) is True and _is_bind(bind) else None


def _names_and_binds(listeners: Plain) -> list[tuple[str | None, str | None]]:
    found: list[tuple[str | None, str | None]] = []
    for listener in listeners if isinstance(listeners, list) else []:
        mapping = listener if isinstance(listener, dict) else {}
        name, bind = mapping.get("name"), mapping.get("bind")
        found.append((name if isinstance(name, str) else None, bind if _is_bind(bind) else None))
    return found


def _over_udp(listeners: Plain) -> list[int]:
    found = enumerate(listeners) if isinstance(listeners, list) else ()
    return [place for place, listener in found if isinstance(listener, dict) and listener.get("mode") == "wireguard"]


def _is_bind(value: Plain) -> TypeGuard[str]:
    if not isinstance(value, str):
        return False
    try:
        parse_bind(value)
    except ValueError:
        return False
    return True


def _resolve(settings: Settings, base: Path) -> Settings:
    base = base.absolute()
    store, log, crls = settings.trust.common_store, settings.log.file, settings.verification.crl_directory
    trust = (
        settings.trust
        if store in STORES_BY_NAME
        else settings.trust.model_copy(update={"common_store": str(base / store)})
    )
    logged = settings.log if log is None else settings.log.model_copy(update={"file": str(base / log)})
    verification = settings.verification
    if crls is not None:
        verification = verification.model_copy(update={"crl_directory": str(base / crls)})
    inspectors = tuple(
        each if each.script in SHIPPED_INSPECTORS else each.model_copy(update={"script": str(base / each.script)})
        for each in settings.inspection.addons
    )
    inspection = settings.inspection.model_copy(update={"addons": inspectors})
    servers = tuple(
        each
        if each.certificate is None or each.key is None
        else each.model_copy(update={"certificate": str(base / each.certificate), "key": str(base / each.key)})
        for each in settings.tls.servers
    )
    listeners = tuple(each.model_copy(update={"tls": _resolved(each.tls, base)}) for each in settings.listeners)
    tls = settings.tls.model_copy(update={"servers": servers})
    parents = tuple(
        each.model_copy(
            update={name: str(base / file) for name in PARENT_FILES if (file := getattr(each, name)) is not None}
        )
        for each in settings.upstream.proxies
    )
    lists = tuple(each.model_copy(update={"file": str(base / each.file)}) for each in settings.bypass.files)
    bypass = settings.bypass.model_copy(update={"files": lists})
    changed = {"state_dir": base / settings.state_dir, "trust": trust, "tls": tls, "log": logged, "bypass": bypass}
    listeners = tuple(_users_beside(listener, base) for listener in listeners)
    upstream = settings.upstream.model_copy(update={"proxies": parents})
    shown = settings.console.tls
    pair = {"certificate": shown.certificate, "key": shown.key}
    shown = shown.model_copy(update={name: str(base / file) for name, file in pair.items() if file is not None})
    breached = settings.console.breached_passwords
    changed["console"] = settings.console.model_copy(
        update={"tls": shown, "breached_passwords": None if breached is None else str(base / breached)}
    )
    changed |= {"verification": verification, "listeners": listeners, "upstream": upstream}
    return settings.model_copy(update={**changed, "inspection": inspection})


def _resolved(tls: ListenerTls, base: Path) -> ListenerTls:
    pair = {"certificate": tls.certificate, "key": tls.key}
    files = {name: str(base / file) for name, file in pair.items() if file is not None}
    cas = tuple(each.model_copy(update={"file": str(base / each.file)}) for each in tls.client_cas)
    return tls.model_copy(update={**files, "client_cas": cas})


def _wrong(file: str, secret: bool) -> str | None:
    """What is wrong with a file that is read later, by whom it is for; a secret is nobody else's."""
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError) as error:
        return f"{file}: {getattr(error, 'strerror', None) or error}"
    if not stat.S_ISREG(mode):
        return f"{file} is no file"
    return f"others can use {file}; run: chmod 600 {file}" if secret and mode & 0o077 else None


def _users_beside(listener: Listener, base: Path) -> Listener:
    """Its files of users, by whole paths."""
    if listener.authentication is None or not listener.authentication.htpasswd:
        return listener
    files = [each.model_copy(update={"file": str(base / each.file)}) for each in listener.authentication.htpasswd]
    authentication = listener.authentication.model_copy(update={"htpasswd": tuple(files)})
    return listener.model_copy(update={"authentication": authentication})


def _check_files(settings: Settings, document: Document) -> None:
    try:
        check(settings.trust.common_store)
    except StoreFileError as error:
        document.add(("trust", "common_store"), str(error))
    if settings.log.file is not None and Path(settings.log.file).is_dir():
        document.add(("log", "file"), f"{settings.log.file} is a folder; expected a file's path")
    crls = settings.verification.crl_directory
    if crls is not None and not Path(crls).is_dir():
        # One that is not there would list nothing, and nobody would notice.
        document.add(("verification", "crl_directory"), f"{crls} is no folder; expected one with CRLs")
    belonging = set(settings.tenants)
    for tenant in settings.log.tenants:
        if tenant not in belonging:
            # A slip of the pen here would have more logged than somebody was promised.
            document.add(("log", "tenants", tenant), f"no listener belongs to the tenant {tenant}")
    for place, server in enumerate(settings.tls.servers):
        for tenant in server.tenants:
            if tenant != "*" and tenant not in belonging:
                # Here, what is to be blocked would not be.
                document.add(("tls", "servers", place, "tenants"), f"no listener belongs to the tenant {tenant}")
    for place, parent in enumerate(settings.upstream.proxies):
        for tenant in parent.tenants:
            if tenant not in belonging | {"*"}:
                # Whoever was to be sent through the parent would go around it.
                document.add(("upstream", "proxies", place, "tenants"), f"no listener belongs to the tenant {tenant}")
        for name in PARENT_FILES:
            if (file := getattr(parent, name)) is not None and (wrong := _wrong(file, secret=name == "password_file")):
                document.add(("upstream", "proxies", place, name), wrong)
    for place, entry in enumerate(settings.bypass.files):
        for tenant in entry.tenants:
            if tenant not in belonging | {"*"}:
                document.add(("bypass", "files", place, "tenants"), f"no listener belongs to the tenant {tenant}")
        try:
            look(entry.file)
        except ListFileError as error:
            document.add(("bypass", "files", place), str(error))
    for place, listener in enumerate(settings.listeners):
        for number, users in enumerate(listener.authentication.htpasswd if listener.authentication else ()):
            try:
                look(users.file)
            except ListFileError as error:
                document.add(("listeners", place, "authentication", "htpasswd", number), str(error))
    for place, inspector in enumerate(settings.inspection.addons):
        if inspector.script not in SHIPPED_INSPECTORS and not Path(inspector.script).is_file():
            shipped = ", ".join(SHIPPED_INSPECTORS)
            document.add(
                ("inspection", "addons", place),
                f"there is no file {inspector.script}; expected a script's path, or one of {shipped}",
            )
