"""Accounts by name, bounded whoever comes: those in use, and of the others as many as are worth remembering."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

IDLE: Final = 65_536  # accounts that nobody uses and that are remembered for what was spent


class Account(Protocol):
    """What a ledger keeps: `uses` is the ledger's."""

    uses: int

    def spare(self, now: float) -> bool:
        """Tell whether the account is as good as new."""


T = TypeVar("T", bound=Account)


class Ledger(Generic[T]):
    """Accounts by name. One that is used stays; the others go once they are as good as new, or the oldest of many."""

    def __init__(self, make: Callable[[], T], idle: int = IDLE) -> None:
        self._make = make
        self._most = idle
        self._used: dict[str, T] = {}
        self._idle: OrderedDict[str, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used) + len(self._idle)

    def of(self, name: str, now: float) -> T:
        """Return an account, a new one where none is known."""
        found = self._used.get(name)
        if found is None:
            found = self._idle.pop(name, None) or self._make()
            self.forget(now)
            self._idle[name] = found
        return found

    def hold(self, name: str) -> T:
        """Return an account that stays until it was let go as often as it was held."""
        account = self._used.get(name)
        if account is None:
            account = self._used[name] = self._idle.pop(name, None) or self._make()
        account.uses += 1
        return account

    def let_go(self, name: str, now: float) -> None:
        """Use an account no more."""
        account = self._used[name]
        account.uses -= 1
        if not account.uses:
            del self._used[name]
            self.forget(now)
            if not account.spare(now):
                self._idle[name] = account

    def forget(self, now: float) -> None:
        """Make room for one, and let go of the oldest that are as good as new."""
        while self._idle and (len(self._idle) >= self._most or self._idle[next(iter(self._idle))].spare(now)):
            self._idle.popitem(last=False)
