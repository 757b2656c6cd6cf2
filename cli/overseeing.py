"""The commands with which operators look at a running deployment and act on its sessions."""

# ruff: noqa: PLC0415 - commands import what they need when they run, so that --help is quick

from typing import Annotated

import typer

from cli import shell
from cli.arguments import Json, User


def declare(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(epilog="Example: tocsin lag --watch 5")(lag)
    app.command(epilog="Example: tocsin sessions u1")(sessions)
    app.command(epilog="Example: tocsin kick u1 --device phone")(kick)
    app.command(epilog="Example: tocsin revoke u1")(revoke)
    app.command(epilog="Example: tocsin doctor")(doctor)


def lag(
    role: Annotated[str, typer.Option(help="Whose consumer group; topics.yaml names the roles.")] = "inbox",
    watch: Annotated[
        float | None, typer.Option(min=0.1, max=86_400, help="Look again every so many s, until Ctrl-C.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how far workers are behind.

    By what Kafka has committed, so it also works while no worker runs.
    """
    from cli.lag import show_lag

    shell.run(show_lag(shell.near_settings(), role, watch=watch, as_json=as_json))


def sessions(user: User, as_json: Json = False) -> None:
    """Show the sessions of a user, as the gateways see them."""
    from cli.sessions import show_sessions

    shell.run(show_sessions(shell.near_settings(), user, as_json=as_json))


def kick(
    user: User,
    device: Annotated[str | None, typer.Option(help="Only sessions of this device.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session.")] = None,
    as_json: Json = False,
) -> None:
    """End sessions of a user now.

    Their tokens stay good: see `revoke`.
    """
    from cli.sessions import kick as run_kick

    shell.run(run_kick(shell.near_settings(), user, device, session, as_json=as_json))


def revoke(
    user: Annotated[str | None, typer.Argument(help="Every token that this user was given until now.")] = None,
    token: Annotated[str | None, typer.Option(help="This token only.")] = None,
    as_json: Json = False,
) -> None:
    """Let tokens count no more, for good.

    Gateways end the sessions that rest on them and let no new ones in. It cannot be undone: give new tokens.
    """
    from cli.revoke import revoke as run_revoke

    shell.run(run_revoke(shell.near_settings(), user, token, as_json=as_json))


def doctor(as_json: Json = False) -> None:
    """Look at everything, and say what is wrong and what to do.

    Exit code 1 when something is.
    """
    from cli.doctor.report import examine

    shell.run(examine(shell.near_settings(), as_json=as_json))
