"""The commands `tocsin topics` and `tocsin store`, with which operators prepare a deployment."""

# ruff: noqa: PLC0415 - commands import what they need when they run, so that --help is quick

import typer

from cli import shell
from cli.arguments import Json

topics_app = typer.Typer(help="topics.yaml against the cluster.", no_args_is_help=True)
store_app = typer.Typer(help="The schema of the store.", no_args_is_help=True)


@topics_app.command("plan", epilog="Example: tocsin topics plan")
def topics_plan(as_json: Json = False) -> None:
    """Show what `apply` would do.

    Exit code 0: nothing, 2: something, 1: it would refuse.
    """
    from cli.topics import plan_topics

    shell.run(plan_topics(shell.near_settings(), as_json=as_json))


@topics_app.command("apply", epilog="Example: TOCSIN_PROFILE=prod tocsin topics apply")
def topics_apply(as_json: Json = False) -> None:
    """Make topics and configure them.

    May be repeated. Refuses what would move users to other partitions.
    """
    from cli.topics import apply_topics

    shell.run(apply_topics(shell.near_settings(), as_json=as_json))


@store_app.command("plan", epilog="Example: tocsin store plan")
def store_plan(as_json: Json = False) -> None:
    """Show the migrations that are pending.

    Exit code 0: none, 2: some.
    """
    from cli.store import plan_store

    shell.run(plan_store(shell.near_settings(), as_json=as_json))


@store_app.command("apply", epilog="Example: TOCSIN_STORE=cassandra://127.0.0.1:9042/tocsin tocsin store apply")
def store_apply(as_json: Json = False) -> None:
    """Apply the migrations that are pending; may be repeated."""
    from cli.store import apply_store

    shell.run(apply_store(shell.near_settings(), as_json=as_json))
