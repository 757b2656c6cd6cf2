"""`tocsin sessions` and `tocsin kick`: the sessions of a user as the gateways see them, and their end."""

from cli.bus import Roll, bus_client, inquire
from cli.outputs import Session, Sessions, time_of
from cli.terminal import say, show
from schemas.bus import Sighting
from streams.settings import Settings


async def show_sessions(settings: Settings, user: str, *, as_json: bool) -> int:
    """Print the sessions of a user; return 0, 1 if a gateway did not answer."""
    async with bus_client(settings) as client:
        roll = await inquire(client, settings.prefix, user, device="", session="", end=False)
    if as_json:
        show(_document(roll))
    else:
        for found in roll.found:
            for one in found.sessions:
                say(_line(found.gateway, one))
        count = sum(len(found.sessions) for found in roll.found)
        say(f"{count} sessions of {user} on {len(roll.found)} gateways")
        _print_silent(roll)
    return 1 if roll.silent else 0


async def kick(settings: Settings, user: str, device: str | None, session: str | None, *, as_json: bool) -> int:
    """End sessions of a user and print how many; return 0, 1 if a gateway did not answer."""
    async with bus_client(settings) as client:
        roll = await inquire(client, settings.prefix, user, device=device or "", session=session or "", end=True)
    if as_json:
        show(_document(roll))
    else:
        for found in roll.found:
            if found.sessions:
                say(f"{found.gateway}: ended {len(found.sessions)}")
        say(f"ended {sum(len(found.sessions) for found in roll.found)} sessions of {user}; their tokens stay good")
        _print_silent(roll)
    return 1 if roll.silent else 0


def _line(gateway: str, one: Sighting) -> str:
    heads = " ".join(f"{log}={seq}" for log, seq in sorted(one.heads.items())) or "not opened yet"
    device = one.device or "-"
    return (
        f"{one.session}  device {device}  {one.transport}  since {time_of(one.since)}  on {gateway}  {heads}  "
        f"{one.waiting} bytes wait"
    )


def _print_silent(roll: Roll) -> None:
    for gateway in roll.silent:
        say(f"{gateway} lives and did not answer: what it holds is not known")
    if not roll.found and not roll.silent:
        say("no gateway lives")


def _document(roll: Roll) -> Sessions:
    return Sessions({found.gateway: [_session(one) for one in found.sessions] for found in roll.found}, roll.silent)


def _session(one: Sighting) -> Session:
    return Session(one.session, one.device, one.transport, time_of(one.since), one.heads, one.waiting)
