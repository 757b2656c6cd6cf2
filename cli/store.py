"""`tocsin store plan|apply`: the migrations of the store."""

from cli.outputs import Migrated, Migrations
from cli.terminal import say, show
from store.urls import migrations
from streams.settings import Settings


async def plan_store(settings: Settings, *, as_json: bool) -> int:
    """Print the migrations that are not applied; return 0 if there are none, else 2."""
    pending = await migrations(settings.store_url()).pending()
    if as_json:
        show(Migrations(pending))
    else:
        say(*([f"pending  {name}" for name in pending] or ["equal: every migration is applied"]))
    return 2 if pending else 0


async def apply_store(settings: Settings, *, as_json: bool) -> int:
    """Apply what is pending and print it; return 0."""
    applied = await migrations(settings.store_url()).apply()
    if as_json:
        show(Migrated(applied))
    else:
        say(*([f"applied  {name}" for name in applied] or ["nothing to do: every migration is applied"]))
    return 0
