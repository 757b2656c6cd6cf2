"""What a deployment consists of: which servers, which programs of ours, and what the environment tells each."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from schemas.addresses import host_port
from schemas.errors import ServerFailed
from stack.child import Child
from stack.ports import LOOPBACK, free_port, free_ports, is_free, obstacle, reserve
from stack.program import Program
from stack.servers import Cassandra, Kafka, Redis, Server, Tansu, Valkey

Kind = Literal["embedded", "real", "own"]

KAFKA_PORT: Final = 9092  # where everybody looks for Kafka first
TOCSIN: Final = (sys.executable, "-m", "cli")  # the command line of this very installation
PARTS: Final = ("kafka", "redis", "store")
_SERVERS: Final[dict[str, dict[str, type[Server]]]] = {
    "kafka": {"embedded": Tansu, "real": Kafka},
    "redis": {"embedded": Valkey, "real": Redis},
    "store": {"real": Cassandra},
}
_WORKER_STOPS_WITHIN: Final = 20.0  # s
_GATEWAY_STOPS_WITHIN: Final = 5.0  # s beyond its drain


class Addresses(msgspec.Struct, frozen=True):
    """Where the servers are, as the settings name them."""

    kafka: str
    redis: str
    store: str


class Kinds(msgspec.Struct, frozen=True):
    """Of each part what it is: embedded or real, which are started here, or somebody's own."""

    kafka: Kind = "embedded"
    redis: Kind = "embedded"
    store: Kind = "embedded"


class Size(msgspec.Struct, frozen=True):
    """How much of what: processes, the gateways' port and whether it speaks TLS, the seconds over which they drain."""

    workers: int
    gateways: int
    host: str
    port: int
    drain: float
    tls: bool = False


def servers_of(kinds: Kinds, folder: Path, logs: Path, *, kafka_port: int = 0) -> dict[str, Server]:
    """Return what has to be started of kafka, redis and store, not started yet. All their data is in `folder`.

    There is nothing to start for what is somebody's own, nor for the embedded store, which is a file.
    """
    started = {part: kind for part in PARTS if (kind := _SERVERS[part].get(getattr(kinds, part)))}
    return {
        part: kind(folder / kind.name, kafka_port if part == "kafka" else 0, log=logs / f"{kind.name}.log")
        for part, kind in started.items()
    }


def lacking(servers: Iterable[Server]) -> str | None:
    """Return what has to be installed before these can start and how, in one line; None if nothing."""
    missing: dict[str, str] = {}
    for server in servers:
        missing |= server.missing()
    if not missing:
        return None
    *most, last = missing
    names = f"{', '.join(most)} and {last} are" if most else f"{last} is"
    packages = " ".join(missing.values())
    return f"{names} missing: apt-get install {packages}; or take embedded servers (--stack embedded), which need none"


def sqlite_url(folder: Path) -> str:
    """Return the URL of the embedded store in a data folder."""
    return f"sqlite:///{folder.absolute() / 'tocsin.db'}"


def gateway_port(host: str, port: int) -> int:
    """Return the port, a free one for 0. Raises `ServerFailed` if it is taken.

    The gateways share their port, so the kernel itself would not complain about a second deployment on it.
    """
    return _chosen(host, port, "--port")


def kafka_port(port: int | None) -> int:
    """Return the port of a Kafka that is started here: the usual one if nobody chose and it is free.

    0 is a free one. Raises `ServerFailed` if the chosen one is taken.
    """
    if port is None:
        return KAFKA_PORT if is_free(KAFKA_PORT) and reserve(KAFKA_PORT) else free_port()
    return _chosen(LOOPBACK, port, "--kafka-port")


def _chosen(host: str, port: int, option: str) -> int:
    if port == 0:
        return free_port()
    reason = obstacle(port, host)
    if reason is None and not reserve(port):
        reason = f"port {port} is taken by another `tocsin up`, which is starting"
    if reason:
        raise ServerFailed(f"{reason}; choose another with {option}, 0: a free one")
    return port


def gateway_url(size: Size) -> str:
    """Return what clients on this machine use to reach the gateways."""
    host = LOOPBACK if size.host in ("", "0.0.0.0", "::") else size.host  # noqa: S104 - compared, not bound
    return f"{'wss' if size.tls else 'ws'}://{host_port(host, size.port)}"


def told(environment: Mapping[str, str], addresses: Addresses, secret: str) -> dict[str, str]:
    """Return the environment of every process of the deployment: the given one, and where everything is."""
    files = ("TOCSIN_REDIS_FILE", "TOCSIN_STORE_FILE", "TOCSIN_SECRET_FILE")  # read already: said once, not twice
    return {
        **{name: value for name, value in environment.items() if name not in files},
        "TOCSIN_KAFKA": addresses.kafka,
        "TOCSIN_REDIS": addresses.redis,
        "TOCSIN_STORE": addresses.store,
        "TOCSIN_SECRET": secret,
        "PYTHONUNBUFFERED": "1",  # the last words of a process are in its log
    }


def steps_of(environment: Mapping[str, str], logs: Path, command: Sequence[str] = TOCSIN) -> list[Child]:
    """Return what has to run to its end before the programs: the store first, for it notes which topics were made."""
    return [
        Child(f"{what} apply", [*command, what, "apply"], log=logs / f"{what}-apply.log", environment=environment)
        for what in ("store", "topics")
    ]


def programs_of(
    size: Size, environment: Mapping[str, str], folder: Path, logs: Path, command: Sequence[str] = TOCSIN
) -> tuple[list[Program], list[Program]]:
    """Return workers and gateways; each has its own name, metrics port and, a worker, its own folder for tables."""
    workers = ["worker-inbox", *(f"worker-inbox-{number}" for number in range(1, size.workers))]
    gateways = [f"gateway-{number}" for number in range(size.gateways)]
    ports = dict(zip([*workers, *gateways], free_ports(len(workers) + len(gateways)), strict=True))

    def program(name: str, arguments: list[str], more: dict[str, str], stop_within: float) -> Program:
        own = {"TOCSIN_INSTANCE": name, "TOCSIN_METRICS_PORT": str(ports[name]), "TOCSIN_DATA": str(folder / name)}
        return Program(
            name,
            [*command, *arguments],
            environment={**environment, **own, **more},
            metrics_port=ports[name],
            log=logs / f"{name}.log",
            stop_within=stop_within,
        )

    shared = {"TOCSIN_HOST": size.host, "TOCSIN_PORT": str(size.port)}
    return (
        [program(name, ["worker", "--role", "inbox"], {}, _WORKER_STOPS_WITHIN) for name in workers],
        [program(name, ["gateway"], shared, size.drain + _GATEWAY_STOPS_WITHIN) for name in gateways],
    )
