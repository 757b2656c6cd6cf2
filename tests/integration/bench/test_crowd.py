"""The crowd of the benchmarks sees what is wrong: it is told by a server that does wrong on purpose."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from websockets.asyncio.server import ServerConnection, serve

from bench.crowd.driver import Crowd, Seen, Speech
from bench.publish import marked

CLIENTS = 5
SPEECH = Speech(
    request="/?n={n}&token={token}",
    first='{"hello":{n}}',
    again='{"hello":{n},"epoch":"{epoch}","after":{seq}}',
    joined='"welcome"',
    ping="{}",
    pong='{"pong":{n}}',
    ack='{"ack":{seq}}',
    epoch='"epoch":"',
    seq='"seq":',
)

Numbers = Sequence[int]
Script = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def crowd(script: Script, *, count: int = CLIENTS, ack_every: float = 0.05) -> AsyncIterator[Crowd]:
    async with serve(script, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        tokens = [f"t{number}" for number in range(count)]
        async with Crowd(SPEECH, [f"127.0.0.1:{port}"], count, tokens=tokens, ack_every=ack_every) as made:
            yield made


def due() -> int:
    return time.monotonic_ns() // 1000


async def sees(numbers: Numbers, expected: int) -> Seen:
    async def script(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send('{"type":"welcome"}')
        for number in numbers:
            await connection.send(marked(due(), number).decode())
        await connection.wait_closed()

    async with crowd(script) as made:
        assert (await made.open(10)).joined == CLIENTS
        assert await made.expect(expected, 1) == (max(numbers) >= expected)
        return await made.report()


async def test_what_comes_once_and_in_order_is_right() -> None:
    seen = await sees([1, 2, 3], 3)
    assert (seen.received, seen.wrong, seen.joins) == (3 * CLIENTS, 0, CLIENTS)
    assert 0 < seen.percentile(0.5) <= seen.percentile(0.99) < 5_000


async def test_a_hole_is_lost() -> None:
    assert (await sees([1, 3], 3)).lost == CLIENTS


async def test_a_message_that_comes_again_is_repeated() -> None:
    assert (await sees([1, 2, 2], 2)).repeated == CLIENTS


async def test_messages_in_the_wrong_order_are_wrong() -> None:
    seen = await sees([2, 1, 3], 3)
    assert (seen.lost, seen.repeated) == (CLIENTS, CLIENTS)


async def test_what_has_not_come_is_behind() -> None:
    seen = await sees([1, 2], 4)
    assert (seen.behind, seen.lost) == (2 * CLIENTS, 0)


async def test_latency_counts_from_when_a_message_was_due() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send('"welcome"' + marked(due() - 7_000_000, 1).decode())
        await connection.wait_closed()

    async with crowd(script) as made:
        await made.open(10)
        await made.expect(1, 5)
        assert 6_500 < (await made.report()).percentile(0.5) < 20_000


async def test_clients_say_who_they_are_answer_pings_acknowledge_and_come_back_with_their_cursor() -> None:
    said: list[str] = []

    async def script(connection: ServerConnection) -> None:
        assert connection.request is not None
        said.append(connection.request.path)
        said.append(str(await connection.recv()))
        await connection.send('{"welcome":1,"epoch":"e-1"}')
        await connection.send("{}")
        await connection.send('{"seq":7}')
        async for message in connection:
            said.append(str(message))  # noqa: PERF401 - each is waited for

    async with crowd(script, count=1) as made:
        await made.open(10)
        async with asyncio.timeout(10):
            while len(said) < 4:
                await made.report()
        await made.cut()
        await made.open(10)
    assert said[:4] == ["/?n=0&token=t0", '{"hello":0}', '{"pong":0}', '{"ack":7}']
    assert said[5] == '{"hello":0,"epoch":"e-1","after":7}'


async def test_clients_that_are_refused_are_counted() -> None:
    async def script(connection: ServerConnection) -> None:
        await connection.close()

    async with crowd(script) as made:
        opened = await made.open(10)
    assert (opened.joined, opened.failed) == (0, CLIENTS)


async def test_slow_clients_take_nothing_until_they_read_again() -> None:
    gate = asyncio.Event()

    async def script(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send('"welcome"')
        await gate.wait()
        await connection.send(marked(due(), 1).decode())
        await connection.wait_closed()

    async with crowd(script) as made:
        await made.open(10)
        await made.slow(CLIENTS)  # the first one
        gate.set()
        assert not await made.expect(1, 0.5)
        assert (await made.report()).behind == 1
        await made.slow(0)
        assert await made.expect(1, 5)
