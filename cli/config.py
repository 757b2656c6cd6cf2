"""`tocsin config`: prints the settings as a file that `TOCSIN_CONFIG` could name; what holds a secret is left out."""

from typing import Any

import msgspec

from cli.outputs import Setting
from gateway.keys import given_keys
from schemas.errors import SettingsError
from streams.settings import PREFIX, Settings, descriptions, redacted


def as_document(settings: Settings) -> dict[str, Setting]:
    """Return the settings by variable, with their values, defaults and help."""
    helps, defaults = descriptions(), msgspec.structs.asdict(Settings())
    return {
        PREFIX + name.upper(): Setting(None if hidden else value, defaults[name], helps[name], hidden)
        for name, value, hidden in _values(settings)
    }


def as_toml(settings: Settings) -> list[str]:
    """Return the settings as lines of TOML, each under its help; what is at its default is commented out."""
    helps, lines = descriptions(), _keys(settings)
    for name, value, hidden in _values(settings):
        lines += [f"# {helps[name]}", _line(name, value, hidden=hidden), ""]
    return lines


def _keys(settings: Settings) -> list[str]:
    """Return the keys of tokens by kind and name, as comments; never what they consist of."""
    try:
        keys = [key.shown() for key in given_keys(settings.secret or "", settings.listed("keys"))]
    except SettingsError as exc:
        keys = [str(exc)]
    return [*(f"# key of tokens: {key}" for key in keys), *[""][: len(keys)]]


def _values(settings: Settings) -> list[tuple[str, Any, bool]]:
    """Return (field, value, whether it holds a secret); a value that does is fit to be shown, not to be read back."""
    shown, real = redacted(settings), msgspec.structs.asdict(settings)
    return [(name, value, value != real[name]) for name, value in shown.items()]


def _line(name: str, value: Any, *, hidden: bool) -> str:
    variable = PREFIX + name.upper()
    if hidden:
        return f"# {variable} is set and holds a secret: it is not printed; {variable}_FILE may name a file with it"
    # a JSON string or number is one of TOML too
    text = msgspec.json.encode("" if value is None else value).decode()
    return f"{'# ' if value == getattr(Settings(), name) else ''}{variable} = {text}"
