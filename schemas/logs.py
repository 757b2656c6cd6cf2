"""Names of logs: what clients see (`inbox/normal`) and what the store keeps (`inbox/normal/{user}`)."""

from typing import Final

LANES: Final = ("critical", "normal", "bulk")
INBOX_LOGS: Final = tuple(f"inbox/{lane}" for lane in LANES)


def inbox_log(lane: str) -> str:
    """Return the name under which a client sees the inbox of a lane."""
    return f"inbox/{lane}"


def log_key(log: str, user: str) -> str:
    """Return the key under which the store and the tables keep a user's own log."""
    return f"{log}/{user}"
