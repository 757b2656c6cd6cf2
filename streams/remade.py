"""The error that ends a worker whose topic was deleted behind its back: what it reads is not what it has judged."""

from typing import Self

from faust.types import TP

from schemas.errors import TopicsError


class TopicRemade(TopicsError):
    """A topic was deleted, or made again, outside `tocsin topics apply`."""

    @classmethod
    def beyond(cls, tp: TP, end: int, processed: int) -> Self:
        """Return the error for a partition that ends at or below an offset that was processed."""
        return cls._of(tp.topic, f"partition {tp.partition} ends at {end}, and offset {processed} was processed")

    @classmethod
    def at(cls, tp: TP, offset: int) -> Self:
        """Return the error for an offset that holds another record than the one that was processed."""
        return cls._of(tp.topic, f"another record was processed as offset {offset} of partition {tp.partition}")

    @classmethod
    def gone(cls, topic: str) -> Self:
        """Return the error for a topic that is not there; the group would go on without it."""
        return cls(f"Kafka has no topic {topic}; stop all workers and run `tocsin topics apply`")

    @classmethod
    def _of(cls, topic: str, reason: str) -> Self:
        return cls(
            f"{topic} was deleted and made again outside `tocsin topics apply`: {reason}; stop all workers, delete the "
            f"topic, and run `tocsin topics apply`"
        )
