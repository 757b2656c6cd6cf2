"""How the one that is refused is found among many: by halves, in order, without a pause.

Of n items with k bad ones among them that takes at most about 2 k log2(n) tries, and every other item is done.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from schemas.errors import Kind
from streams.failures import kind

_T = TypeVar("_T")


def halves(items: Sequence[_T]) -> tuple[Sequence[_T], Sequence[_T]]:
    """Return the first and the second half of at least two items; what stood in front stays in front."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]


async def spared(
    items: Sequence[_T],
    work: Callable[[Sequence[_T]], Awaitable[object]],
    refused: Callable[[_T, Exception], object],
) -> None:
    """Do work on items so that a refused one takes no other with it; `refused` is told of each that is.

    `work` may be called again for items that a call before was refused: it has to be idempotent.
    """
    waiting = [items] if items else []
    while waiting:
        part = waiting.pop()
        try:
            await work(part)
        except Exception as exc:
            if kind(exc) is not Kind.REFUSED:
                raise
            if len(part) == 1:
                refused(part[0], exc)
            else:
                waiting += reversed(halves(part))
