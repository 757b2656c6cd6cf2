import asyncio

from tests.integration.gateway.conftest import Running, until


async def test_a_client_is_welcomed_and_gets_entries_in_order(gateway: Running) -> None:
    async with gateway.client() as client:
        for _ in range(5):
            await gateway.worker.append("u1", "x", times=3)
        assert await client.seqs(15) == list(range(1, 16))
    await until(lambda: gateway.worker.ended)
