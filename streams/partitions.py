"""Which partition a key belongs to, as Kafka's own clients compute it."""

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=200_000)
def home_partition(key: bytes, partitions: int) -> int:
    """Return murmur2(key) modulo the number of partitions, the place where every record of a key has to lie."""
    hashed: int = murmur2(key)
    return (hashed & 0x7FFFFFFF) % partitions
