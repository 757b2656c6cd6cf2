"""Whose a token is, also where its key has to be read first: an issuer may sign with a new key at any time."""

from collections.abc import Callable
from functools import partial
from typing import Final

from gateway import codes
from gateway.auth import Claims, Verifier
from schemas.errors import BadToken, KeysAway, RevokedToken, UnknownKey

AWAY: Final = "the keys of tokens cannot be read now; come again"

Then = Callable[[Claims | BadToken], None]
Again = Callable[[str | None, Callable[[bool], None]], bool]  # `Jwks.again`


class Prover:
    """Judges tokens. `again` reads the published keys again; None: there are none, so what is unknown stays so."""

    def __init__(self, verifier: Verifier, again: Again | None = None) -> None:
        self._verifier = verifier
        self._again = again

    def prove(self, token: str, user: str, then: Then) -> None:
        """Call `then` with what a token for a user's session says or why it is not good: perhaps after a reading."""
        verdict = self.judge(token)
        if isinstance(verdict, BadToken) and self.waits(verdict):
            self.prove_later(token, user, then)
        else:
            then(verdict)

    def waits(self, refused: BadToken) -> bool:
        """Tell whether what is refused now may be good once the published keys were read again."""
        return self._again is not None and isinstance(refused, UnknownKey)

    def prove_later(self, token: str, whom: str | None, then: Then) -> None:
        """Read the published keys again, and call `then` with the verdict; at once if too many wait for that.

        `whom` is the address or user that it is for.
        """
        if self._again is not None and not self._again(whom, partial(self._prove_again, token, then)):
            then(KeysAway(AWAY))

    def _prove_again(self, token: str, then: Then, good: bool) -> None:
        verdict = self.judge(token)
        then(verdict if good or not isinstance(verdict, UnknownKey) else KeysAway(AWAY))

    def judge(self, token: str) -> Claims | BadToken:
        """Return what the token says or why it is not good, by the keys that are known now."""
        try:
            return self._verifier.check(token)
        except BadToken as exc:
            return exc


def close_code(refused: BadToken) -> int:
    """Return the close code that tells a client what to do about its token."""
    match refused:
        case RevokedToken():
            return codes.REVOKED
        case KeysAway():
            return codes.RESTART
        case _:
            return codes.BAD_TOKEN
