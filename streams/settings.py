"""Settings: environment variables `TOCSIN_*`, or the same names in the TOML file that `TOCSIN_CONFIG` names.

They are read once, at the start of a process. An unknown or malformed one stops the start with one clear line.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from schemas.errors import SettingsError
from schemas.text import is_encodable
from streams import security
from streams.limits import Limit, limit_from
from streams.networks import Network, networks_from

PREFIX: Final = "TOCSIN_"
LIMITED: Final = (
    "normal", "bulk", "connection", "worker", "user_rows", "address", "user", "frames", "sync", "reads",
)  # fmt: skip
NETWORKS: Final = ("proxies", "limit_exempt")
SECRET_NAMES: Final = ("secret", "kafka_password", "redis_password", "store_password")
IN_FILES: Final = (*SECRET_NAMES, "redis", "store")  # these may be given as TOCSIN_…_FILE, which names a file
NOT_SETTINGS: Final = (f"{PREFIX}CONFIG", f"{PREFIX}CACHE")  # where settings and downloads lie

# What Kubernetes puts into the environment of every container for a service.
_LINK_NAME: Final = re.compile(
    r"TOCSIN_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Life = Annotated[float, Meta(gt=0, le=366 * 86_400)]  # a revocation is remembered so long
Count = Annotated[int, Meta(ge=1)]
Secret = Annotated[str, Meta(min_length=32)]
Prefix = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{0,64}$")]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be set. Field `kafka` is the variable `TOCSIN_KAFKA`, and so on; the descriptions are its help."""

    kafka: Annotated[str, Meta(description="brokers, host:port separated by commas")] = "127.0.0.1:9092"
    kafka_security: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"],
        Meta(description="how brokers are reached: plaintext, ssl, sasl_plaintext or sasl_ssl"),
    ] = "plaintext"
    kafka_sasl: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"],
        Meta(description="mechanism of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
    ] = "SCRAM-SHA-512"
    kafka_user: Annotated[str, Meta(description="user for SASL")] = ""
    kafka_password: Annotated[str, Meta(description="password of that user")] = ""
    kafka_ca: Annotated[
        str,
        Meta(description="file of the authorities that certificates of brokers are checked by; empty: the system's"),
    ] = ""
    kafka_cert: Annotated[str, Meta(description="file of our own certificate, where brokers ask for one")] = ""
    kafka_key: Annotated[str, Meta(description="file of the key of that certificate, not encrypted")] = ""
    redis: Annotated[str, Meta(description="URL of Redis; rediss:// for TLS")] = "redis://127.0.0.1:6379/0"
    redis_password: Annotated[str, Meta(description="password of Redis, if it is not in the URL")] = ""
    redis_ca: Annotated[str, Meta(description="file of the authorities for rediss://; empty: the system's")] = ""
    store: Annotated[
        str,
        Meta(description="cassandra://host:port/keyspace or sqlite:///path; empty: SQLite in the data folder"),
    ] = ""
    store_password: Annotated[str, Meta(description="password of the user in the URL of Cassandra")] = ""
    store_ca: Annotated[str, Meta(description="file of the authorities for Cassandra; given, TLS is used")] = ""
    secret: Annotated[Secret | None, Meta(description="HS256 key of the tokens, at least 32 characters")] = None
    keys: Annotated[
        str,
        Meta(description="files or folders of further keys of tokens, by commas: PEM (public), JWK, JWKS or a secret"),
    ] = ""
    jwks: Annotated[str, Meta(description="address that publishes keys of tokens (JWKS), https://")] = ""
    jwks_ca: Annotated[
        str, Meta(description="file of the authorities that the address is checked by; empty: the system's")
    ] = ""
    audience: Annotated[
        str, Meta(description="whom tokens are for (`aud`), by commas; empty: tokens with an `aud` are refused")
    ] = ""
    issuer: Annotated[str, Meta(description="who makes tokens (`iss`), by commas; empty: anybody with a key")] = ""
    token_life: Annotated[
        Life, Meta(description="s that a token may live at most, from `iat` (else from now) to `exp`")
    ] = 86_400.0
    idempotence: Annotated[
        bool,
        Meta(
            description="producers ask Kafka to drop what they send twice; false for the embedded Kafka, which cannot"
        ),
    ] = True
    data: Annotated[str, Meta(description="folder for tables and embedded data")] = ".tocsin"
    prefix: Annotated[Prefix, Meta(description="stands before every topic, group and channel")] = ""
    profile: Annotated[Literal["dev", "prod"], Meta(description="dev or prod: which sizes of topics.yaml")] = "dev"
    topics: Annotated[str, Meta(description="path of another topics.yaml; empty: the one that comes with Tocsin")] = ""
    host: Annotated[str, Meta(description="address that the gateway listens on")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="port of the gateway")] = 8080
    url: Annotated[str, Meta(description="what clients use to reach the gateway; empty: ws://host:port")] = ""
    tls_cert: Annotated[
        str, Meta(description="file of the gateway's certificate and its chain; empty: the port speaks no TLS")
    ] = ""
    tls_key: Annotated[str, Meta(description="file of the key of that certificate, not encrypted")] = ""
    metrics_host: Annotated[str, Meta(description="address that /metrics and /health listen on")] = "127.0.0.1"
    metrics_port: Annotated[
        Port, Meta(description="/metrics and /health of this process; 0: a free one, written to the log")
    ] = 0
    origins: Annotated[
        str,
        Meta(description="origins that browsers may connect from, by commas; also same, loopback, *; empty: same"),
    ] = ""
    heartbeat: Annotated[Seconds, Meta(description="s between WebSocket pings")] = 25.0
    idle: Annotated[Seconds, Meta(description="s without a sign of life after which a session ends")] = 30.0
    sessions: Annotated[Count, Meta(description="sessions that one gateway process takes")] = 18_000
    drain: Annotated[Seconds, Meta(description="s over which a stopping gateway sends its clients away")] = 10.0
    backlog: Annotated[Count, Meta(description="entries a log that a device is sent unasked when it comes back")] = (
        10_000
    )
    limit_bulk: Annotated[
        str,
        Meta(description="entries/seconds that a user's `inbox/bulk` takes; what is over it is dropped; empty: any"),
    ] = "600/60"
    limit_normal: Annotated[str, Meta(description="the same of `inbox/normal`")] = ""
    limit_connection: Annotated[
        str,
        Meta(description="entries/seconds of `inbox/bulk` that a session is sent, the rest waits there; empty: any"),
    ] = "500/5"
    limit_worker: Annotated[
        str,
        Meta(description="records/seconds of the lane bulk that a worker takes, the rest waits in Kafka; empty: any"),
    ] = ""
    limit_user_sessions: Annotated[
        Count, Meta(description="sessions that a user has at a time, over all gateways; one more is closed with 4007")
    ] = 100
    limit_user_devices: Annotated[
        Count, Meta(description="devices of a user that are remembered; those not seen for longest are forgotten first")
    ] = 1_000
    limit_user_rows: Annotated[
        str,
        Meta(
            description="entries/seconds that the sessions of a user are sent of what they lack, the rest waits; "
            "empty: any"
        ),
    ] = "30000/10"
    device_ttl: Annotated[
        float, Meta(gt=0, le=36_500, description="days after which a device that was not seen is forgotten")
    ] = 90.0
    limit_address: Annotated[
        str, Meta(description="connections/seconds that a gateway takes from one client address; empty: any")
    ] = "2000/20"
    limit_user: Annotated[str, Meta(description="the same from one user; empty: any")] = "120/60"
    limit_frames: Annotated[
        str,
        Meta(
            description="frames/seconds that all sessions of a user in one gateway may say, acknowledgements not "
            "counted; empty: any"
        ),
    ] = "1000/10"
    limit_sync: Annotated[
        str,
        Meta(description="entries/seconds that they may ask for by `sync`, the rest waits; empty: any"),
    ] = "20000/10"
    limit_reads: Annotated[
        str,
        Meta(
            description="frames/seconds that are read from them, acknowledgements and all; what is above it waits in "
            "the network; empty: any"
        ),
    ] = "20000/4"
    limit_exempt: Annotated[
        str, Meta(description="networks whose clients are not counted by address, separated by commas")
    ] = "127.0.0.0/8,::1"
    address_sessions: Annotated[Count, Meta(description="sessions of one client address in one gateway")] = 2_000
    address_opening: Annotated[
        Count, Meta(description="connections of one client address whose request is not complete yet")
    ] = 200
    proxies: Annotated[
        str, Meta(description="networks of the proxies whose X-Forwarded-For is believed, separated by commas")
    ] = ""
    instance: Annotated[str, Meta(description="id of this worker in its group (static membership); empty: none")] = ""
    session_timeout: Annotated[
        Seconds, Meta(description="s after which Kafka gives a silent worker's partitions to others")
    ] = 10.0
    stuck: Annotated[
        Seconds, Meta(description="s without a sign of life after which a worker or gateway ends itself with code 70")
    ] = 60.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="debug, info, warning or error")
    ] = "info"

    def store_url(self) -> str:
        """Return the store's URL, the SQLite file in the data folder if none was given; it may hold a password."""
        return security.store_url(self)

    def redis_url(self) -> str:
        """Return the URL that every client of Redis is made from; it may hold a password."""
        return security.redis_url(self)

    def exact_ends(self) -> bool:
        """Return whether Kafka says exactly where a partition ends; the embedded one may leave a last batch out."""
        return self.idempotence

    def limit(self, scope: str) -> Limit | None:
        """Return a limit of `LIMITED`, by its name: that of a log of a lane, of a `connection`, of a `user`.

        None: there is none, as for the lane `critical`. Raises `SettingsError` for a malformed one.
        """
        return limit_from(getattr(self, f"limit_{scope}", ""), f"{PREFIX}LIMIT_{scope.upper()}")

    def networks(self, field: str) -> tuple[Network, ...]:
        """Return the networks that a setting of `NETWORKS` lists. Raises `SettingsError` for a malformed one."""
        return networks_from(getattr(self, field), f"{PREFIX}{field.upper()}")

    def kafka_options(self) -> dict[str, Any]:
        """Return what every client of Kafka is made with: where the brokers are and how to reach them."""
        return security.kafka_options(self)

    def listed(self, field: str) -> tuple[str, ...]:
        """Return the parts of a setting that is a list by commas."""
        return tuple(part.strip() for part in str(getattr(self, field)).split(",") if part.strip())

    def __repr__(self) -> str:
        return f"Settings({redacted(self)})"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings of an environment. Raises `SettingsError` with one line that says what to do."""
    return settings_from(read_values(environment))


def read_values(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what an environment sets, by field, before it is checked; the environment wins over the file."""
    values: dict[str, Any] = {}
    if path := environment.get(f"{PREFIX}CONFIG"):
        values.update(_with_secrets(_from_file(Path(path))))
    for name, value in environment.items():
        if name.startswith(PREFIX) and not is_encodable(name, value):
            raise SettingsError(f"{name!r} is not text in UTF-8")
    own = {name: value for name, value in environment.items() if name.startswith(PREFIX) and _is_ours(name, value)}
    values.update(_with_secrets({name.removeprefix(PREFIX).lower(): value for name, value in own.items()}))
    return values


def _is_ours(name: str, value: str) -> bool:
    """Say whether a variable is meant for us, and not one that Kubernetes sets for a Service of such a name.

    For the Services `tocsin` and `tocsin-metrics` these are TOCSIN_SERVICE_HOST, TOCSIN_PORT=tcp://10.0.0.1:8080,
    TOCSIN_PORT_8080_TCP_ADDR, TOCSIN_METRICS_PORT=tcp://…, and so on.
    """
    link = _LINK_NAME.fullmatch(name) or (name.endswith("_PORT") and _LINK_VALUE.match(value))
    return name not in NOT_SETTINGS and not link


def _with_secrets(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with those in files put in: `secret_file` becomes `secret`."""
    for field in IN_FILES:
        if (path := values.pop(f"{field}_file", None)) is None:
            continue
        name = f"{PREFIX}{field.upper()}"
        if field in values:
            raise SettingsError(f"{name} and {name}_FILE are both set; which one is meant?")
        values[field] = _secret_in(f"{name}_FILE", str(path))
    return values


def _secret_in(name: str, path: str) -> str:
    try:
        secret = Path(path).read_text().strip()
    except OSError as exc:
        raise SettingsError(f"{name}: {path} cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{name}: {path} is not text") from None
    if not secret:
        raise SettingsError(f"{name}: {path} is empty")
    return secret


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Return the settings made of values by field. Raises `SettingsError`."""
    for field in values:
        if field not in Settings.__struct_fields__:
            raise SettingsError(f"{PREFIX}{field.upper()} is not a setting{_did_you_mean(field)}")
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as exc:
        message, _, path = str(exc).partition(" - at `$.")
        raise SettingsError(f"{PREFIX}{path.rstrip('`').upper()}: {message}") from None
    security.check(settings)
    for scope in LIMITED:
        settings.limit(scope)
    for field in NETWORKS:
        settings.networks(field)
    return settings


def _did_you_mean(field: str) -> str:
    near = difflib.get_close_matches(field, Settings.__struct_fields__, n=1)
    hint = f"did you mean {PREFIX}{near[0].upper()}? " if near else ""
    return f"; {hint}`tocsin config` lists them"


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except OSError as exc:
        raise SettingsError(f"{PREFIX}CONFIG: {path} cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{PREFIX}CONFIG: {path} is not TOML: {exc}") from None
    wrong = [name for name in values if not name.startswith(PREFIX)]
    if wrong:
        raise SettingsError(f"{path}: {wrong[0]} is not a setting; names begin with {PREFIX}")
    return {name.removeprefix(PREFIX).lower(): value for name, value in values.items()}


def redacted(settings: Settings) -> dict[str, Any]:
    """Return the settings for printing: secrets and passwords in URLs are replaced by `***`."""
    shown = msgspec.structs.asdict(settings)
    for name in SECRET_NAMES:
        if shown[name]:
            shown[name] = "***"
    return {name: security.without_password(v) if isinstance(v, str) else v for name, v in shown.items()}


def descriptions() -> dict[str, str]:
    """Return the help of every setting, by field."""
    schema = msgspec.json.schema(Settings)
    properties: dict[str, dict[str, Any]] = schema["$defs"]["Settings"]["properties"]
    return {name: described["description"] for name, described in properties.items()}
