"""The command `tocsin`: its commands, their help, and how errors end it."""

# ruff: noqa: PLC0415 - commands import what they need when they run, so that --help is quick

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from cli import overseeing, shell
from cli.arguments import Json, Lane, User
from cli.operating import store_app, topics_app
from cli.replay.commands import dlq_app, replay_app
from cli.terminal import say, show

app = typer.Typer(
    name="tocsin",
    help="Real-time notifications on Kafka: every device of a user gets every entry once, in order, now or later.",
    epilog="Begin with: tocsin up; then, in two more shells: tocsin listen u1; tocsin send u1 'hello'",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(topics_app, name="topics")
app.add_typer(store_app, name="store")
app.add_typer(replay_app, name="replay")
app.add_typer(dlq_app, name="dlq")


class Stack(StrEnum):
    """Which servers `up` starts."""

    embedded = "embedded"
    real = "real"


YEAR: Final = 366 * 86_400  # s; no longer than revocations are remembered
CENTURY: Final = 100 * YEAR

_SERVER = "embedded|real|URL"
DeviceOption = Annotated[str | None, typer.Option(help="Only this device of the user.")]


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error came from.")] = False,
) -> None:
    shell.debug(on=debug)


def main() -> None:
    """Run the command line and end the process."""
    shell.main(app)


@app.command(epilog="Example: tocsin up; with a Kafka of your own: tocsin up --kafka broker.example:9092")
def up(
    stack: Annotated[Stack | None, typer.Option(help="All servers of one kind; instead of the next three.")] = None,
    kafka: Annotated[str | None, typer.Option(metavar=_SERVER, help="Kafka: started, or yours (host:port).")] = None,
    redis: Annotated[str | None, typer.Option(metavar=_SERVER, help="Redis: started, or yours.")] = None,
    store: Annotated[str | None, typer.Option(metavar=_SERVER, help="Store: SQLite, Cassandra, or yours.")] = None,
    kafka_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of a started Kafka, 0: a free one.  [default: 9092]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the gateway, 0: a free one.  [default: 8080]")
    ] = None,
    api_port: Annotated[int, typer.Option(min=0, max=65535, help="Reserved for later, without effect.")] = 8081,
    ready_file: Annotated[Path | None, typer.Option(help="Written once all is ready, as JSON.")] = None,
    gateways: Annotated[int, typer.Option(min=1, help="Gateway processes; they share the port.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Folder for tables, logs and the servers' data.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the logs of all parts.")] = False,
) -> None:
    """Start everything, until Ctrl-C.

    Servers, store, topics, workers and gateways, supervised: what dies is started again. A server that neither an
    option nor a setting names is embedded.
    """
    from cli.choosing import Choice
    from cli.up import Wanted
    from cli.up import up as run_up

    names: dict[Stack, Literal["embedded", "real"]] = {Stack.embedded: "embedded", Stack.real: "real"}
    choice = Choice(stack=names[stack] if stack else None, kafka=kafka, redis=redis, store=store, kafka_port=kafka_port)
    wanted = Wanted(
        choice=choice, port=port, api_port=api_port, ready_file=ready_file,
        gateways=gateways, workers=workers, data=data, verbose=verbose,
    )  # fmt: skip
    raise typer.Exit(run_up(wanted))


@app.command(epilog="Example: tocsin worker --role inbox")
def worker(role: Annotated[str, typer.Option(help="What it does; topics.yaml names the roles.")]) -> None:
    """Run one worker of a role."""
    from cli.worker import run_worker

    run_worker(shell.settings(), role)


@app.command(epilog="Example: TOCSIN_PORT=8080 tocsin gateway")
def gateway() -> None:
    """Run one gateway process."""
    from cli.gateway import run_gateway

    run_gateway(shell.settings())


@app.command(epilog="Example: tocsin send u1 'Your parcel is here' --lane critical --key parcel-7")
def send(
    user: User,
    text: Annotated[str, typer.Argument(help="The body.")],
    lane: Annotated[Lane, typer.Option(help="Which inbox of the user.")] = Lane.normal,
    key: Annotated[str | None, typer.Option(help="The producer's own id; the same one is delivered once.")] = None,
    kind: Annotated[str, typer.Option(help="What it is about, such as order.paid.")] = "",
    title: Annotated[str | None, typer.Option(help="The title.")] = None,
    data: Annotated[str | None, typer.Option(help="A JSON object for the client.")] = None,
    device: DeviceOption = None,
    expires_in: Annotated[
        float | None, typer.Option(min=0, max=CENTURY, help="Seconds after which it is not delivered any more.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many; texts and keys are numbered.")] = 1,
    rate: Annotated[float, typer.Option(min=0, max=1e6, help="How many a second, 0: as fast as possible.")] = 0,
    as_json: Json = False,
) -> None:
    """Write notifications to Kafka.

    Each is printed, with its position, once all replicas have it.
    """
    from cli.send import Sending
    from cli.send import send as run_send

    sending = Sending(
        user=user, text=text, lane=lane.value, key=key, kind=kind, title=title, data=data,
        device=device, expires_in=expires_in, count=count, rate=rate,
    )  # fmt: skip
    shell.run(run_send(shell.near_settings(), sending, as_json=as_json))


@app.command(epilog="Example: tocsin listen u1 --device phone --cursor-file phone.json")
def listen(
    user: User,
    device: Annotated[str | None, typer.Option(help="Which device of the user this is.")] = None,
    token: Annotated[str | None, typer.Option(help="A token; without it one is made from TOCSIN_SECRET.")] = None,
    cursor_file: Annotated[Path | None, typer.Option(help="Where the device keeps what it has.")] = None,
    as_json: Json = False,
) -> None:
    """Be a device, until Ctrl-C.

    Prints what arrives, with its latency, and comes back by itself when the connection is lost.
    """
    from cli.listen import listen as run_listen

    chosen = shell.near_settings()
    shell.run(run_listen(chosen, user, device=device, token=token, cursor_file=cursor_file, as_json=as_json))


@app.command(epilog="Example: tocsin token u1 --device phone --ttl 300")
def token(
    user: User,
    device: DeviceOption = None,
    ttl: Annotated[float, typer.Option(min=1, max=YEAR, help="Seconds that it is valid.")] = 600,
    kid: Annotated[str | None, typer.Option(help="Sign with the secret of TOCSIN_KEYS that has this name.")] = None,
) -> None:
    """Make a token for a client."""
    from cli.tokens import token_by_settings

    say(token_by_settings(shell.near_settings(), user, device=device, ttl=ttl, kid=kid))


@app.command(epilog="Example: tocsin config > tocsin.toml")
def config(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print every setting with its help.

    Secrets are left out; without --json it is a file that TOCSIN_CONFIG may name.
    """
    from cli import config as printed

    if as_json:
        show(printed.as_document(shell.settings()))
    else:
        say(*printed.as_toml(shell.settings()))


@app.command(epilog="Example: tocsin demo --once")
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the first round.")] = False,
) -> None:
    """Show it all at work.

    Starts everything on embedded servers, sends real notifications and shows them arriving at devices.
    """
    from cli.demo import run_demo

    shell.run(run_demo(once=once))


@app.command(hidden=True, epilog="Example: tocsin docs")
def docs(folder: Annotated[Path, typer.Argument(help="Where the documents lie.")] = Path("docs")) -> None:
    """Write the JSON Schemas and the AsyncAPI document anew."""
    from cli.docs import write_documents

    for path in write_documents(folder):
        say(str(path))


@app.command(epilog="Example: tocsin version")
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    say(f"tocsin {installed('tocsin')}")


overseeing.declare(app)  # after what comes first in the help: starting it and trying it
