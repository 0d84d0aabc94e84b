"""The command ``sallyport``: global options, and the subcommands, each loaded when it is asked for.

The parts below bring SQLAlchemy, OpenSSL and more; ``--help`` and a mistyped command should not wait for them.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from cli.context import Context, in_words
from cli.output import Stop

COMMANDS = {
    "serve": "Run the daemon in the foreground.",
    "reload": "Have the running daemon read its configuration again; --exec: replace the program too.",
    "check-config": "Report every problem of the configuration, or print the effective settings.",
    "tenant": "Create, list, show and delete tenants.",
    "trusted-ca": "The private CAs that a tenant trusts beside the common store.",
    "signing-ca": "The CAs that sign what clients are shown.",
    "kmip": "Key managers that keep a signing CA's key: who we are to them.",
    "nodes": "The daemon's workers: the generation that each works with, and its last purge.",
    "audit-log": "Who changed what, when and from where.",
    "issuance-log": "Every leaf that was signed, for which host and by which signing CA.",
    "bypass": "The hosts for which the tenant's traffic is not decrypted.",
    "proxy-user": "The users who tell by name and password that they are the tenant's.",
    "wireguard": "The devices that may use the tenant's WireGuard listeners.",
    "errors": "What is done about each defect of a server's certificate.",
    "admin": "The accounts that may use console and REST API.",
    "token": "Programs' way to the REST API, in the name of an account.",
    "backup": "Save the database, and the master key, of an installation while it is used.",
    "restore": "Put in place what was saved; the daemon has to be stopped.",
    "gateway": "Rules that have this machine, a gateway, send its clients' connections to the proxy.",
    "top": "Live connections, rates and verdicts of the running daemon.",
    "traffic": "What the daemon's connections came to: live, a verdict with both chains, figures of a week.",
    "probe": "Connect to a server as the daemon would, and explain the verdict.",
}
"""Each is the attribute ``command`` of the module ``cli.<name>``; the text is its line in the help."""

TRACEBACK_VARIABLE = "SALLYPORT_TRACEBACK"


class LazyGroup(click.Group):
    """A group whose commands are modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the parts below refuse becomes words and a status."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            raise
        except Exception as error:
            if (stop := in_words(error)) is not None:
                raise stop from error
            raise


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if not value or context.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"sallyport {version('sallyport')}")
    except PackageNotFoundError:
        click.echo("sallyport (not installed: run from its source)")
    context.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", metavar="FILE", help="The configuration. Else SALLYPORT_CONFIG, or ./sallyport.yaml.")
@click.option("--tenant", metavar="NAME", default="default", show_default=True, help="The tenant that is meant.")
@click.option(
    "--if-generation",
    "generation",
    metavar="N",
    type=click.IntRange(0),
    help="Refuse a change of what somebody else changed after generation N of the tenant (see tenant show).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
@click.pass_context
def sallyport(context: click.Context, config: str | None, tenant: str, as_json: bool, generation: int | None) -> None:
    """A forward proxy that ends TLS on both sides and blocks what it cannot verify.

    Exit status: 0 done, 1 refused (the reason is on stderr), 2 usage or configuration.
    """
    context.obj = Context(config=config, tenant=tenant, json=as_json, generation=generation)


def main() -> None:
    """Run the command and exit with its status. A fault of ours ends in one line too, and not in a traceback."""
    try:
        sallyport(prog_name="sallyport")
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        fault = f"a fault of sallyport itself: {type(error).__name__}: {error}"
        Stop(f"{fault}. Please report it; with {TRACEBACK_VARIABLE}=1 it shows where").show()
        sys.exit(1)


if __name__ == "__main__":
    main()
