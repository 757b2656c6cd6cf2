"""Topics for benchmarks that start no deployment, which would make its own."""

from collections.abc import Iterable

from aiokafka.admin import AIOKafkaAdminClient, NewTopic


async def make_topics(brokers: str, names: Iterable[str], partitions: int) -> None:
    """Make topics of so many partitions, each kept once."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1) for name in names])
    finally:
        await admin.close()
