"""Which tokens count no more: what operators wrote to the topic `revocations`, kept while it can matter.

Pure: `take` a record, ask `refuses`, `forget` what is over. It is bounded by time: a revocation goes once every token
that it concerns has expired.
"""

from typing import Final

from gateway.auth import LEEWAY, Claims
from schemas.records import Revocation

SLACK: Final = LEEWAY + 60.0  # s beyond `until` that a revocation is kept: clocks differ, and tokens have leeway


class Revocations:
    """The revocations in force. Times are s since 1970."""

    def __init__(self) -> None:
        self._users: dict[str, Revocation] = {}
        self._tokens: dict[str, Revocation] = {}

    def __len__(self) -> int:
        return len(self._users) + len(self._tokens)

    def take(self, record: Revocation, now: float) -> bool:
        """Take a revocation, in any order and as often as it comes; return whether it adds anything."""
        if record.until + SLACK <= now:
            return False
        kind, name = (self._users, record.user) if record.token is None else (self._tokens, record.token)
        known = kind.get(name or "")
        if known is not None and known.at >= record.at and known.until >= record.until:
            return False
        if known is not None:
            at, until = max(known.at, record.at), max(known.until, record.until)
            record = Revocation(at=at, until=until, user=record.user, token=record.token)
        kind[name or ""] = record
        return True

    def refuses(self, claims: Claims) -> bool:
        """Tell whether a token counts no more; one that does not say when it was issued was issued before."""
        if claims.token in self._tokens:
            return True
        revoked = self._users.get(claims.user)
        return revoked is not None and claims.issued <= revoked.at

    def forget(self, now: float) -> None:
        """Let go of what concerns no token that is still good."""
        for kind in (self._users, self._tokens):
            for name in [name for name, record in kind.items() if record.until + SLACK <= now]:
                del kind[name]
