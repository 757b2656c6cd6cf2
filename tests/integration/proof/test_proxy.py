"""Each way in which the proxy breaks connections, seen from a client of a server that echoes."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from proof.proxy import Proxy
from stack.ports import LOOPBACK, free_port

SOON = 5.0  # s
MOMENT = 0.3  # s in which nothing may come


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def hear(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), SOON)

    async def echo(self, said: bytes) -> bytes:
        self.writer.write(said)
        return await self.hear(len(said))

    async def hears_nothing(self) -> bool:
        try:
            await asyncio.wait_for(self.reader.read(1), MOMENT)
        except TimeoutError:
            return True
        return False


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")  # the other direction has ended, this one has not
        await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    port = free_port()
    server = await asyncio.start_server(echo, LOOPBACK, port)
    async with Proxy(f"{LOOPBACK}:{port}") as opened:
        yield opened
    server.close()


async def client_of(proxy: Proxy) -> Client:
    return Client(*await asyncio.open_connection(LOOPBACK, proxy.port))


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    connected = await client_of(proxy)
    assert await connected.echo(b"hello") == b"hello"
    yield connected
    connected.writer.close()


async def test_bytes_pass(proxy: Proxy, client: Client) -> None:
    many = bytes(range(256)) * 4_000
    assert await client.echo(many) == many
    assert proxy.connections == proxy.open == 1
    assert proxy.passed == {"to_server": len(many) + 5, "to_client": len(many) + 5}


async def test_a_cut_is_a_reset_and_new_connections_work(proxy: Proxy, client: Client) -> None:
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.hear(1)
    again = await client_of(proxy)
    assert await again.echo(b"again") == b"again"
    again.writer.close()


async def test_refuse_takes_no_new_connections_and_leaves_the_open_ones(proxy: Proxy, client: Client) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await client_of(proxy)
    assert await client.echo(b"still") == b"still"
    await proxy.heal()
    again = await client_of(proxy)
    assert await again.echo(b"again") == b"again"
    again.writer.close()


async def test_what_hangs_goes_on_when_it_is_healed(proxy: Proxy, client: Client) -> None:
    proxy.hang()
    client.writer.write(b"wait")
    assert await client.hears_nothing()
    late = await client_of(proxy)  # connections are taken, and nothing comes of them
    late.writer.write(b"late")
    assert await late.hears_nothing()
    await proxy.heal()
    assert await client.hear(4) == b"wait"
    assert await late.hear(4) == b"late"
    late.writer.close()


async def test_one_direction_may_hang_alone(proxy: Proxy, client: Client) -> None:
    proxy.hang("to_client")
    client.writer.write(b"gone")
    assert await client.hears_nothing()
    assert proxy.passed["to_server"] == 9
    await proxy.heal()
    assert await client.hear(4) == b"gone"


async def test_a_connection_that_hangs_can_be_cut(proxy: Proxy, client: Client) -> None:
    proxy.hang()
    client.writer.write(b"wait")
    assert await client.hears_nothing()
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await client.hear(1)


async def test_a_delay_holds_bytes_back(proxy: Proxy, client: Client) -> None:
    proxy.delay(0.4, "to_server")
    begin = time.monotonic()
    assert await client.echo(b"slow") == b"slow"
    assert time.monotonic() - begin >= 0.4


async def test_a_trickle_passes_so_many_bytes_a_second(proxy: Proxy, client: Client) -> None:
    proxy.trickle(1_000, "to_client")
    begin = time.monotonic()
    assert await client.echo(b"x" * 500) == b"x" * 500
    assert 0.4 <= time.monotonic() - begin < SOON


async def test_half_a_connection_ends_and_the_other_half_goes_on(proxy: Proxy, client: Client) -> None:
    proxy.half_close("to_server")
    assert await client.hear(3) == b"bye"  # the server saw the end and could still answer


async def test_the_end_of_a_client_reaches_the_server(proxy: Proxy, client: Client) -> None:
    client.writer.write_eof()
    assert await client.hear(3) == b"bye"


async def test_without_the_server_a_connection_ends_at_once() -> None:
    async with Proxy(f"{LOOPBACK}:{free_port()}") as alone:
        client = await client_of(alone)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await client.hear(1)
        client.writer.close()


async def test_a_filter_sees_what_clients_of_new_connections_say(proxy: Proxy) -> None:
    proxy.alter(lambda: lambda said: said.upper())
    client = await client_of(proxy)
    assert await client.echo(b"quiet") == b"QUIET"
    proxy.alter(None)
    other = await client_of(proxy)
    assert await other.echo(b"quiet") == b"quiet"
    for each in (client, other):
        each.writer.close()
