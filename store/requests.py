"""From the driver's threads to asyncio: many requests a call, few wake-ups of the loop, bounded bytes in flight.

The driver answers on its own thread. Answers gather on a deque; the first of them wakes the loop, which then takes all
that have come. What fails for a passing reason (a node that restarts, a full connection, a timeout) is sent again until
the deadline of the call: every request is idempotent. What is refused is believed once a **witness** was taken: a small
request that is in order. Where it is not, the store is not well, and nobody's rows are to blame.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from schemas.errors import Kind, StoreAway, StoreBarred, StoreError, StoreRefused
from store.cassandra_failures import is_doubtful, kind

DEADLINE: Final = 10.0  # s that a call may take
MAX_REQUESTS: Final = 64  # in flight
MAX_BYTES: Final = 1024 * 1024  # in flight; beyond it the connection refuses
FIRST_PAUSE: Final = 0.05  # s before a request is sent again; doubled each time
LONGEST_PAUSE: Final = 1.0
DOUBTED: Final = 3  # times that a request is sent again which a node failed at, before the witness is asked

Rows = list[tuple[Any, ...]]


class Request(NamedTuple):
    """A statement of the driver and its size in bytes, about (of a read: 0)."""

    statement: Any
    size: int = 0


class _Call:
    """Requests that one caller waits for."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.results: list[Rows] = [[] for _ in requests]
        self.left = len(requests)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reason: BaseException | None = None  # of the last failure that passes

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Suspect(Exception):
    """A request was refused; whether that is its own fault the witness has to say."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def _failure(error: BaseException) -> BaseException:
    """Return what a call ends with whose request is not sent again."""
    match kind(error):
        case Kind.REFUSED:
            return _Suspect(error)
        case Kind.BARRED:
            return StoreBarred(f"Cassandra does not let this process in: {error}")
    return error


class _Job:
    """One request of a call, and what has come for it."""

    __slots__ = ("call", "error", "future", "number", "request", "rows", "tries")

    def __init__(self, call: _Call, number: int, request: Request) -> None:
        self.call, self.number, self.request = call, number, request
        self.rows: Rows = []
        self.error: BaseException | None = None
        self.future: Any = None
        self.tries = 0


class Requests:
    """Runs requests on a session of the driver. What waits here is bounded by the callers, who wait for it."""

    def __init__(self, session: Any, deadline: float = DEADLINE) -> None:
        self._session = session
        self._deadline = deadline
        self.witness: Callable[[], Sequence[Request]] = tuple  # makes requests that the store takes if it is well
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._answered: deque[_Job] = deque()
        self._armed = False
        self._flying = 0
        self._bytes = 0
        self._closed = False

    async def run(self, requests: Sequence[Request]) -> list[Rows]:
        """Return the rows of each request, in order; all pages of them.

        Raises `StoreRefused` when a request is refused and the witness is not, else `StoreError` when one is not
        answered within the deadline.
        """
        if self._closed:
            raise StoreAway("the store is closed")
        if not requests:
            return []
        try:
            return await self._run(requests)
        except _Suspect as exc:
            raise await self._verdict(exc.error) from exc.error

    async def _verdict(self, error: BaseException) -> StoreError:
        """Return what a refusal amounts to: the witness says whether it is of the request or of the store."""
        try:
            await self._run(self.witness())
        except (_Suspect, StoreError) as exc:
            return StoreBarred(f"Cassandra refused: {error}, and takes nothing else ({exc}): see to the keyspace")
        return StoreRefused(f"Cassandra refused: {error}")

    async def _run(self, requests: Sequence[Request]) -> list[Rows]:
        if not requests:
            return []
        call = _Call(requests)
        self._waiting.extend([_Job(call, number, request) for number, request in enumerate(requests)])
        self._send()
        try:
            async with asyncio.timeout(self._deadline):
                await call.done
        except TimeoutError:
            why = f" ({call.reason})" if call.reason else ""
            message = f"Cassandra did not answer within {self._deadline:g} s{why}: check that it runs, then try again"
            raise StoreAway(message) from call.reason
        return call.results

    def close(self) -> None:
        """Take nothing more; what fails from now on is not sent again."""
        self._closed = True

    def _send(self) -> None:
        """Send what waits, as far as the bounds allow. A call that has ended drops what it still has here."""
        while self._waiting and self._flying < MAX_REQUESTS:
            job = self._waiting[0]
            if self._flying and self._bytes + job.request.size > MAX_BYTES:
                return
            self._waiting.popleft()
            if job.call.done.done():
                continue
            self._flying += 1
            self._bytes += job.request.size
            job.future = self._session.execute_async(job.request.statement)
            job.future.add_callbacks(self._page, self._error, callback_args=(job,), errback_args=(job,))

    def _page(self, rows: Rows | None, job: _Job) -> None:
        """Take a page, on the driver's thread."""
        if rows:
            job.rows.extend(rows)
        if job.future.has_more_pages:
            job.future.start_fetching_next_page()
        else:
            self._report(job)

    def _error(self, error: BaseException, job: _Job) -> None:
        """Take an error, on the driver's thread."""
        job.error = error
        self._report(job)

    def _report(self, job: _Job) -> None:
        job.future = None  # it knows the job: together they would be garbage that only a look for cycles finds
        self._answered.append(job)  # first this, then the question who wakes the loop: so none is left behind
        if not self._armed and not self._loop.is_closed():
            self._armed = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._armed = False
        while self._answered:
            job = self._answered.popleft()
            self._flying -= 1
            self._bytes -= job.request.size
            if not job.call.done.done():
                self._settle(job)
        self._send()

    def _settle(self, job: _Job) -> None:
        call, error = job.call, job.error
        if error is None:
            call.results[job.number] = job.rows
            call.left -= 1
            if not call.left:
                call.done.set_result(None)
        elif self._closed:
            call.fail(StoreAway(f"the store was closed: {error}"))
        elif self._passes(job, error):
            call.reason = error
            self._loop.call_later(min(LONGEST_PAUSE, FIRST_PAUSE * 2**job.tries), self._again, job)
        else:
            call.fail(_failure(error))

    @staticmethod
    def _passes(job: _Job, error: BaseException) -> bool:
        return kind(error) is Kind.AWAY or (is_doubtful(error) and job.tries < DOUBTED)

    def _again(self, job: _Job) -> None:
        job.tries += 1
        job.error = None
        job.rows = []
        self._waiting.append(job)
        self._send()
