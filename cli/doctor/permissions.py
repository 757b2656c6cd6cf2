"""Asks Kafka what its user may do with topics; aiokafka does not offer it, so the request is spelt out here."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

METADATA: Final = 3
NOT_SAID: Final = -(2**31)  # instead of bits
FORBIDDEN: Final = 29  # Kafka's code: the user may not even look at the topic

_BROKER = ("node_id", Int32), ("host", String("utf-8")), ("port", Int32), ("rack", String("utf-8"))
_PARTITION = (
    ("error_code", Int16), ("partition", Int32), ("leader", Int32), ("leader_epoch", Int32),
    ("replicas", Array(Int32)), ("isr", Array(Int32)), ("offline_replicas", Array(Int32)),
)  # fmt: skip
_TOPIC = (
    ("error_code", Int16), ("topic", String("utf-8")), ("is_internal", Boolean), ("partitions", Array(*_PARTITION)),
    ("operations", Int32),
)  # fmt: skip


class _MetadataResponseV8(Response):  # type: ignore[misc]  # aiokafka has no type information
    API_KEY = METADATA
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(*_BROKER)),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        ("topics", Array(*_TOPIC)),
        ("operations", Int32),
    )


class _MetadataRequestV8(RequestStruct):  # type: ignore[misc]  # see above
    API_KEY = METADATA
    API_VERSION = 8
    RESPONSE_TYPE = _MetadataResponseV8
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))), ("make", Boolean), ("cluster_operations", Boolean), ("operations", Boolean)
    )


class _MetadataRequest(Request[_MetadataRequestV8]):  # type: ignore[misc]  # see above
    API_KEY = METADATA

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[_MetadataRequestV8]) -> _MetadataRequestV8:
        return request_struct_class(self._topics, False, False, True)


async def operations(kafka: Mapping[str, Any], topics: Sequence[str]) -> dict[str, int | None] | None:
    """Return the bits of the operations that are allowed on each topic that exists, None: not even to look at it.

    `kafka` is the settings' `kafka_options()`. Returns None where the broker (the embedded one) does not tell.
    """
    client = AIOKafkaClient(**kafka)
    await client.bootstrap()
    try:
        answer = await client.send(client.get_random_node(), _MetadataRequest(topics))
    except (IncompatibleBrokerVersion, NotImplementedError):
        return None
    finally:
        await client.close()
    found = answer.to_object()["topics"]
    if any(one["operations"] == NOT_SAID and one["error_code"] == 0 for one in found):
        return None
    return {
        one["topic"]: None if one["error_code"] == FORBIDDEN else one["operations"]
        for one in found
        if one["error_code"] in (0, FORBIDDEN)
    }
