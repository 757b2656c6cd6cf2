"""Names of logs: what clients see (`inbox/normal`) and what the store keeps (`inbox/normal/{user}`)."""

from typing import Final

LANES: Final = ("critical", "normal", "bulk")
INBOX_LOGS: Final = tuple(f"inbox/{lane}" for lane in LANES)


KINDS: Final = ("chat", "topic")  # logs of which there is any number: chat/{id}, topic/{name}


def kind_of(log: str) -> str:
    """Return what a log is counted under, which is one of few: the log of a lane itself, its kind, or `other`."""
    if log in INBOX_LOGS:
        return log
    kind = log.partition("/")[0]
    return kind if kind in KINDS else "other"


def inbox_log(lane: str) -> str:
    """Return the name under which a client sees the inbox of a lane."""
    return f"inbox/{lane}"


def log_key(log: str, user: str) -> str:
    """Return the key under which the store and the tables keep a user's own log."""
    return f"{log}/{user}"
