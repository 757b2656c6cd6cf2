"""Values of a table that are kept in memory as objects, those used last."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

KEPT: Final = 100_000  # values of a table; up to 1 KB each

_P = TypeVar("_P", bytes, str)
_T = TypeVar("_T")
UNKNOWN: Final[Any] = object()


def _nowhere(_place: Any, _value: Any) -> None:
    """Let a value go that is elsewhere as well."""


class Kept(Generic[_P, _T]):
    """The values used last, at most `KEPT` of them; `let_go` is told which ones leave.

    When all of them are young they become old. What is used becomes young again, and with each value that does an old
    one goes: to let go of all at once would hold the loop up. Places are bytes or text, and not tuples, which a look
    for cyclic garbage would go through.
    """

    def __init__(self, let_go: Callable[[_P, _T], None] = _nowhere) -> None:
        self._let_go: Callable[[_P, _T], None] = let_go
        self._young: dict[_P, _T] = {}
        self._old: dict[_P, _T] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, place: _P) -> _T | Any:
        """Return what is kept for a place, else `UNKNOWN`."""
        value = self._young.get(place, UNKNOWN)
        if value is UNKNOWN and self._old:
            value = self._old.get(place, UNKNOWN)
            if value is not UNKNOWN:
                self.keep(place, value)
        return value

    def keep(self, place: _P, value: _T) -> None:
        """Keep a value."""
        self._young[place] = value
        if self._old and self._old.pop(place, UNKNOWN) is UNKNOWN:
            self._let_go(*self._old.popitem())
        if len(self._young) >= KEPT:
            self._young, self._old = self._old, self._young

    def drop(self, place: _P) -> None:
        """Forget a value."""
        self._young.pop(place, None)
        self._old.pop(place, None)

    def clear(self) -> None:
        """Forget all."""
        self._young.clear()
        self._old.clear()
