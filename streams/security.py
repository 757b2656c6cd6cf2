"""How clients reach servers that demand TLS or a password: what the settings say about it, checked and made ready.

Certificates and host names are always verified; no setting switches that off.
"""

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from redis.asyncio.connection import URL_QUERY_ARGUMENT_PARSERS, parse_url

from schemas.errors import SettingsError

if TYPE_CHECKING:
    from streams.settings import Settings

SASL: Final = ("sasl_plaintext", "sasl_ssl")
TLS: Final = ("ssl", "sasl_ssl")
REDIS: Final = "redis://user@host:port/0, or rediss:// for TLS"
# A name of at most 63 characters between dots, as DNS has it, or an address; one of IPv6 in brackets.
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.%\w]+\]|[\w-]{1,63}(\.[\w-]{1,63})*\.?)(:(?P<port>\d{1,5}))?")
_OPTIONS: Final = frozenset(URL_QUERY_ARGUMENT_PARSERS)  # of a Redis URL that the client knows
_OURS: Final = ("username", "password")  # of a Redis URL's query: they belong elsewhere


def check(settings: "Settings") -> None:
    """Raise `SettingsError` for what contradicts itself or cannot work, in a line that never shows a value."""
    problem = _of_kafka(settings) or _of_redis(settings) or _of_store(settings) or _of_gateway(settings)
    if problem:
        raise SettingsError(problem)


def _of_kafka(settings: "Settings") -> str | None:
    if "@" in settings.kafka or "://" in settings.kafka:
        return (
            "TOCSIN_KAFKA is host:port separated by commas; TOCSIN_KAFKA_USER and _PASSWORD are settings of their own"
        )
    if not all(_is_address(address.strip()) for address in settings.kafka.split(",")):
        return "TOCSIN_KAFKA is host:port separated by commas, such as kafka1:9092,[::1]:9092"
    return _of_kafka_security(settings)


def _of_kafka_security(settings: "Settings") -> str | None:
    sasl, tls = settings.kafka_security in SASL, settings.kafka_security in TLS
    if sasl and not (settings.kafka_user and settings.kafka_password):
        return f"TOCSIN_KAFKA_SECURITY={settings.kafka_security} needs TOCSIN_KAFKA_USER and TOCSIN_KAFKA_PASSWORD"
    if not sasl and (settings.kafka_user or settings.kafka_password):
        return (
            "TOCSIN_KAFKA_USER and TOCSIN_KAFKA_PASSWORD have no effect with "
            f"TOCSIN_KAFKA_SECURITY={settings.kafka_security}; set sasl_ssl (or sasl_plaintext)"
        )
    if not tls and (settings.kafka_ca or settings.kafka_cert or settings.kafka_key):
        return (
            "TOCSIN_KAFKA_CA, _CERT and _KEY have no effect with "
            f"TOCSIN_KAFKA_SECURITY={settings.kafka_security}; set ssl or sasl_ssl"
        )
    if bool(settings.kafka_cert) != bool(settings.kafka_key):
        return "TOCSIN_KAFKA_CERT and TOCSIN_KAFKA_KEY belong together; one of them is missing"
    return None


def _is_address(text: str) -> bool:
    """Say whether a text is a host, with a port or without."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found["port"] or 9092) <= 65_535


def _of_redis(settings: "Settings") -> str | None:
    if malformed := _of_redis_url(settings.redis):
        return malformed
    parts = urlsplit(settings.redis)
    if settings.redis_ca and parts.scheme != "rediss":
        return "TOCSIN_REDIS_CA has no effect without TLS; TOCSIN_REDIS begins with rediss:// then"
    if settings.redis_password and parts.password:
        return "the password of Redis is given twice, in TOCSIN_REDIS and in TOCSIN_REDIS_PASSWORD"
    return None


def _of_redis_url(url: str) -> str | None:
    parts = _split(url)
    if parts is None or not (parts.netloc if parts.scheme in ("redis", "rediss") else parts.scheme == "unix"):
        return f"TOCSIN_REDIS is malformed; write {REDIS}; characters such as / # @ in a password are percent-encoded"
    for name, _ in parse_qsl(parts.query):
        if name in _OURS or name.startswith("ssl_"):
            return f"TOCSIN_REDIS has the option {name}; use the URL, TOCSIN_REDIS_PASSWORD and TOCSIN_REDIS_CA instead"
        if name not in _OPTIONS:
            return f"TOCSIN_REDIS has the option {name}, which is not known; known are {', '.join(sorted(_OPTIONS))}"
    if parts.scheme != "unix" and not (parts.path.strip("/") or "0").isdecimal():
        return f"TOCSIN_REDIS ends with the number of a database; write {REDIS}"
    try:
        parse_url(url)
    except ValueError as exc:
        return f"TOCSIN_REDIS: {exc}"
    return None


def _of_store(settings: "Settings") -> str | None:
    if not settings.store.startswith("cassandra://"):
        if settings.store_password or settings.store_ca:
            return "TOCSIN_STORE_PASSWORD and TOCSIN_STORE_CA are for a TOCSIN_STORE that begins with cassandra://"
        return None
    user, colon, _ = settings.store.removeprefix("cassandra://").rpartition("@")[0].partition(":")
    if settings.store_password and not user:
        return "TOCSIN_STORE_PASSWORD needs a user in TOCSIN_STORE: cassandra://user@host:port/keyspace"
    if settings.store_password and colon:
        return "the password of the store is given twice, in TOCSIN_STORE and in TOCSIN_STORE_PASSWORD"
    if settings.store_ca and "tls=false" in settings.store:
        return "TOCSIN_STORE_CA contradicts tls=false in TOCSIN_STORE"
    return None


def _of_gateway(settings: "Settings") -> str | None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        return "TOCSIN_TLS_CERT and TOCSIN_TLS_KEY belong together; one of them is missing"
    if settings.jwks_ca and not settings.jwks.startswith("https://"):
        return "TOCSIN_JWKS_CA has no effect without TLS; TOCSIN_JWKS begins with https:// then"
    return None


def kafka_options(settings: "Settings") -> dict[str, Any]:
    """Return the arguments of aiokafka's clients. Raises `SettingsError` if a certificate cannot be used."""
    options: dict[str, Any] = {"bootstrap_servers": settings.kafka}
    if settings.kafka_security == "plaintext":
        return options
    options["security_protocol"] = settings.kafka_security.upper()
    if settings.kafka_security in TLS:
        options["ssl_context"] = client_context(
            "TOCSIN_KAFKA", settings.kafka_ca, settings.kafka_cert, settings.kafka_key
        )
    if settings.kafka_security in SASL:
        options["sasl_mechanism"] = settings.kafka_sasl
        options["sasl_plain_username"] = settings.kafka_user
        options["sasl_plain_password"] = settings.kafka_password
    return options


def redis_url(settings: "Settings") -> str:
    """Return the URL of Redis with password and certificate authority, ready for `from_url`; never to be shown."""
    url = urlsplit(settings.redis)
    if settings.redis_password:
        url = _with_password(url, settings.redis_password)
    if settings.redis_ca:
        require_file("TOCSIN_REDIS_CA", settings.redis_ca)
        url = _with_option(url, "ssl_ca_certs", settings.redis_ca)
    return urlunsplit(url)


def store_url(settings: "Settings") -> str:
    """Return the URL of the store with password and certificate authority; never to be shown."""
    url = settings.store or f"sqlite:///{Path(settings.data).absolute() / 'tocsin.db'}"
    if settings.store_password:
        user, _, rest = url.rpartition("@")
        url = f"{user}:{quote(settings.store_password, safe='')}@{rest}"
    if settings.store_ca:
        require_file("TOCSIN_STORE_CA", settings.store_ca)
        url = f"{url}{'&' if '?' in url else '?'}{urlencode({'ca': settings.store_ca})}"
    return url


def client_context(setting: str, ca: str, cert: str = "", key: str = "") -> ssl.SSLContext:
    """Return what verifies a server: by the authority in the file `ca`, by the system's if it is empty.

    `setting` is what the names of the settings begin with. Raises `SettingsError`.
    """
    for name, path in (("CA", ca), ("CERT", cert), ("KEY", key)):
        if path:
            require_file(f"{setting}_{name}", path)
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (ssl.SSLError, OSError):
        raise SettingsError(f"{setting}_CA: {ca} is not a certificate in PEM") from None
    if cert:
        _load_pair(context, setting, cert, key)
    return context


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """Return what the gateway's port shows to clients. Raises `SettingsError`."""
    require_file("TOCSIN_TLS_CERT", cert)
    require_file("TOCSIN_TLS_KEY", key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_pair(context, "TOCSIN_TLS", cert, key)
    return context


def _load_pair(context: ssl.SSLContext, setting: str, cert: str, key: str) -> None:
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # else OpenSSL asks the terminal
    except (ssl.SSLError, OSError):
        raise SettingsError(
            f"{setting}_CERT and {setting}_KEY: {cert} and {key} are not a certificate and its key in PEM, unencrypted"
        ) from None


def require_file(setting: str, path: str) -> None:
    """Raise `SettingsError` if the file that a setting names cannot be read."""
    try:
        with Path(path).open("rb"):
            return
    except OSError as exc:
        raise SettingsError(f"{setting}: {path} cannot be read: {exc.strerror}") from None


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, None if it has no sense; what the parser says is not repeated: it quotes the URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return None if parts.fragment else parts


def _with_password(url: SplitResult, password: str) -> SplitResult:
    user, _, host = url.netloc.rpartition("@")
    return url._replace(netloc=f"{user.partition(':')[0]}:{quote(password, safe='')}@{host}")


def _with_option(url: SplitResult, name: str, value: str) -> SplitResult:
    return url._replace(query="&".join(filter(None, [url.query, urlencode({name: value})])))


def without_password(url: str) -> str:
    """Return a URL for printing: a password in it is replaced by `***`."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not (separator and at):
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{host}"
