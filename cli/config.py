"""`tocsin config`: prints the settings as a file that `TOCSIN_CONFIG` could name, with secrets blacked out."""

from typing import Any

import msgspec

from streams.settings import PREFIX, Settings, descriptions, redacted


def as_json(settings: Settings) -> str:
    """Return the settings by variable, with their values, defaults and help, as JSON."""
    shown, helps, defaults = redacted(settings), descriptions(), msgspec.structs.asdict(Settings())
    document = {
        PREFIX + name.upper(): {"value": value, "default": defaults[name], "help": helps[name]}
        for name, value in shown.items()
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def as_toml(settings: Settings) -> str:
    """Return the settings as TOML, each under its help; what is as it comes is commented out."""
    shown, helps, defaults = redacted(settings), descriptions(), Settings()
    return "\n".join(
        f"# {helps[name]}\n{_line(name, value, is_default=getattr(settings, name) == getattr(defaults, name))}"
        for name, value in shown.items()
    )


def _line(name: str, value: Any, *, is_default: bool) -> str:
    # a JSON string or number is one of TOML too
    text = msgspec.json.encode("" if value is None else value).decode()
    return f"{'# ' if is_default else ''}{PREFIX}{name.upper()} = {text}\n"
