"""Which Kafka, Redis and store `tocsin up` runs on: rules only, nothing is reached or started here.

Each is embedded or real, which `up` starts, or somebody's own. An option wins over the settings, and what neither
names is embedded. `--stack` is for all three, so that nothing else may name one of them.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from schemas.errors import SettingsError
from stack.assembly import PARTS, Kind, Kinds
from store.urls import parse
from streams.settings import PREFIX, Settings, settings_from

# how to get into servers that are not ours; those that `up` starts ask for nothing
ENTRY: Final[dict[str, tuple[str, ...]]] = {
    "kafka": ("kafka_security", "kafka_user", "kafka_password", "kafka_ca", "kafka_cert", "kafka_key"),
    "redis": ("redis_password", "redis_ca"),
    "store": ("store_password", "store_ca"),
}
_STARTED: Final[tuple[Kind, ...]] = ("embedded", "real")
_BROKER: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]/@]+):(\d{1,5})")
_HIGHEST: Final = 65535
_OWN: Final = {
    "kafka": "host:port of a Kafka of your own ([::1]:9092 for IPv6, several with commas)",
    "redis": "redis://host:port/0 of a Redis of your own",
    "store": "cassandra://host:port/keyspace or sqlite:///path of a store of your own",
}


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says of the servers, as it was typed; None: nothing."""

    stack: Kind | None = None
    kafka: str | None = None
    redis: str | None = None
    store: str | None = None
    kafka_port: int | None = None


def choose(choice: Choice, values: Mapping[str, Any]) -> tuple[Kinds, Settings]:
    """Return the kind of each part, and the settings with the addresses of one's own.

    `values` is what the environment sets, by field. Raises `SettingsError` for what contradicts itself.
    """
    typed = {part: text for part in PARTS if (text := getattr(choice, part)) is not None}
    if choice.stack:
        _refuse_contradiction(choice.stack, typed, values)
    kinds = Kinds(**{part: _kind(part, choice.stack or typed.get(part), values) for part in PARTS})
    own = {part: _address(part, text) for part, text in typed.items() if getattr(kinds, part) == "own"}
    started = [part for part in PARTS if getattr(kinds, part) != "own"]
    unused = {field for part in started for field in (part, *ENTRY[part])}
    try:
        settings = settings_from({name: value for name, value in values.items() if name not in unused} | own)
        if settings.store:
            parse(settings.store)
    except SettingsError as exc:
        raise _in_terms_of_options(exc, own) from None
    if kinds.kafka == "embedded" and "idempotence" in values and settings.idempotence:
        raise SettingsError(f"{PREFIX}IDEMPOTENCE is true, but the embedded Kafka gives no producer ids; unset it")
    if kinds.kafka == "own" and choice.kafka_port:
        raise SettingsError(f"--kafka-port is for a Kafka that `up` starts, and {settings.kafka} runs already")
    return kinds, settings


def _kind(part: str, typed: str | None, values: Mapping[str, Any]) -> Kind:
    if typed is None:
        return "own" if any(_is_set(values, field) for field in (part, *ENTRY[part])) else "embedded"
    return next((kind for kind in _STARTED if typed == kind), "own")


def _refuse_contradiction(stack: Kind, typed: Mapping[str, str], values: Mapping[str, Any]) -> None:
    for part, text in typed.items():
        if text != stack:
            shown = text if text in _STARTED or _is_broker(text) else "URL"  # which may hold a password
            raise SettingsError(
                f"--stack {stack} and --{part} {shown} contradict each other, for --stack is for all three servers; "
                f"without it: {_written_out(stack, {**typed, part: shown})}"
            )
    for part in PARTS:
        for field in (part, *ENTRY[part]):
            if _is_set(values, field):
                raise SettingsError(
                    f"{PREFIX}{field.upper()} is set, but --stack {stack} starts a {_title(part)} of its own; "
                    f"unset it, or use yours, without --stack: {_written_out(stack, {part: ''})}"
                )


def _is_set(values: Mapping[str, Any], field: str) -> bool:
    return values.get(field, "") not in ("", "plaintext")


def _title(part: str) -> str:
    return part if part == "store" else part.capitalize()


def _written_out(stack: Kind, typed: Mapping[str, str]) -> str:
    """Return the options that say of each part what it is, instead of `--stack`; empty ones come from the settings."""
    said = {part: typed.get(part, stack) for part in PARTS}
    return " ".join(f"--{part} {text}" for part, text in said.items() if text)


def _address(part: str, text: str) -> str:
    """Return what the setting of the part would be. Raises `SettingsError`; what was typed may hold a password."""
    if part == "kafka":
        text = text.removeprefix("kafka://")
        fine = all(_is_broker(each.strip()) for each in text.split(","))
    elif part == "redis":
        text = f"redis://{text}/0" if _is_broker(text) else text
        fine = "://" in text
    else:
        fine = text.startswith(("cassandra://", "sqlite://"))
    if not fine:
        raise SettingsError(f"--{part} is embedded, real, or {_OWN[part]}")
    return text


def _is_broker(text: str) -> bool:
    found = _BROKER.fullmatch(text)
    return found is not None and 0 < int(found[2]) <= _HIGHEST


def _in_terms_of_options(exc: SettingsError, own: Mapping[str, str]) -> SettingsError:
    """Return the error as it concerns who has typed an option and knows of no setting."""
    text = str(exc)
    for part in own:
        text = re.sub(rf"\b{PREFIX}{part.upper()}\b", f"--{part}", text)
    return SettingsError(text)
