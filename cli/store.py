"""`tocsin store plan|apply`: the migrations of the store."""

import msgspec

from store.urls import migrations
from streams.settings import Settings


async def plan_store(settings: Settings, *, as_json: bool) -> int:
    """Print the migrations that are not applied; return 0 if there are none, else 2."""
    pending = await migrations(settings.store_url()).pending()
    _print(pending, "pending", "equal: every migration is applied", as_json=as_json)
    return 2 if pending else 0


async def apply_store(settings: Settings, *, as_json: bool) -> int:
    """Apply what is pending and print it; return 0."""
    applied = await migrations(settings.store_url()).apply()
    _print(applied, "applied", "nothing to do: every migration is applied", as_json=as_json)
    return 0


def _print(names: list[str], word: str, nothing: str, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode({word: names}).decode())
    else:
        print("\n".join(f"{word}  {name}" for name in names) or nothing)
