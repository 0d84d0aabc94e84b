"""What another configuration means for a daemon that runs: what changes, what cannot, and who has to be replaced."""

from __future__ import annotations

from dataclasses import dataclass

from config.settings import Settings

FIXED = ("state_dir", "database", "user", "console", "metrics", "kms")
"""What a daemon keeps for its life: where its state lies, whom it runs as, who wraps the keys, where it is watched."""
ISSUER = ("signing", "kmip", "log", "limits")
"""What the issuer reads. The workers read nearly everything."""


def wireguard_part(settings: Settings) -> object:
    """What the process of the WireGuard listeners reads: while it is the same, the process and its tunnels stay."""
    listeners = tuple(listener for listener in settings.listeners if listener.mode == "wireguard")
    return (
        listeners, settings.wireguard, settings.resolver, settings.onboarding.name, settings.log,
        settings.limits.half_close_timeout, settings.limits.write_timeout, settings.limits.leaf_timeout,
        settings.limits.resolve_timeout,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """From the settings in force to others. ``settings`` are those that can be in force now."""

    settings: Settings
    sections: tuple[str, ...]
    """What differs, by its name at the top of the file."""
    kept: tuple[str, ...]
    """What differs in the file and stays as it is."""

    @property
    def issuer(self) -> bool:
        """Whether the issuer has to be replaced too."""
        return any(section in ISSUER for section in self.sections)


def change(now: Settings, wanted: Settings) -> Change:
    """What it means to go from ``now`` to what is ``wanted``."""
    differing = [name for name in Settings.model_fields if getattr(now, name) != getattr(wanted, name)]
    kept = [name for name in differing if name in FIXED]
    return Change(
        wanted.model_copy(update={name: getattr(now, name) for name in kept}),
        tuple(name for name in differing if name not in FIXED),
        tuple(kept),
    )
