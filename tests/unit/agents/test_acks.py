"""Acknowledgements of many gateways: merged as they come; a bad one is named by a dead letter and takes no other."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from agents.acks import AcksAgent
from agents.cursors import CursorWriter
from schemas.records import Ack, Acks, encode
from schemas.rows import Cursor
from telemetry.worker import WorkerMetrics

LOG = "inbox/normal"


class World:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.letters: list[tuple[str, str]] = []
        self.cursors = CursorWriter(cast("Any", None))
        parts = SimpleNamespace(producer=self, dead_letters=self, metrics=WorkerMetrics(self.registry))
        self.agent = AcksAgent(cast("Any", parts), self.cursors)

    def letter(self, _message: Any, code: str, error: str) -> Any:
        return (code, error)

    async def emit(self, emits: Sequence[Any]) -> None:
        self.letters += emits

    async def merge(self, *values: bytes | None) -> None:
        if work := self.agent.merge([SimpleNamespace(value=value) for value in values]):
            await work()


def packed(*acks: Ack) -> bytes:
    return encode(Acks(gateway="g", acks=list(acks)))


@pytest.fixture
async def world() -> World:
    return World()


async def test_records_of_many_gateways_make_one_watermark(world: World) -> None:
    await world.merge(*(packed(Ack("ann", "phone", LOG, seq, seq - 1)) for seq in range(1, 200)))
    assert world.cursors.pending("ann") == [Cursor("ann", LOG, "phone", 199, 198)]
    assert not world.letters


@pytest.mark.parametrize(
    "item",
    [
        b'["bob","a b","inbox/normal",1,1]',
        b'["bob","phone","inbox/nowhere",1,1]',
        b'["","phone","inbox/normal",1,1]',
        b'["bob","phone","inbox/normal",9007199254740992,1]',
        b'["bob","phone","inbox/normal",-1,1]',
        b'["bob","phone","inbox/normal",1.5,1]',
        b'["\\ud800","phone","inbox/normal",1,1]',
        b'["\xed\xa0\x80","phone","inbox/normal",1,1]',
        b'["bob","' + b"d" * 65 + b'","inbox/normal",1,1]',
        b"{}",
        b"null",
    ],
)
async def test_a_bad_ack_takes_no_other_with_it(world: World, item: bytes) -> None:
    good = b",".join(b'["u%d","phone","inbox/normal",5,4]' % number for number in range(499))
    await world.merge(b'{"type":"acks","gateway":"g","acks":[%s,%s],"v":1}' % (item, good))
    assert world.cursors.waiting() == 499
    ((code, error),) = world.letters
    assert code == "bad_request"
    assert error
    assert world.registry.get_sample_value("tocsin_bad_items_total") == 1


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "bad_request"),
        (b"{]", "not_json"),
        (b'{"type":"acks","gateway":"g","acks":7}', "bad_request"),
        (b'{"type":"sync","gateway":"g","syncs":[]}', "bad_request"),
        (b'{"type":"acks","acks":[["ann","phone","inbox/normal",1,1]]}', "bad_request"),
        (b"[" * 5_000, "bad_request"),
    ],
)
async def test_a_record_that_is_bad_as_a_whole_is_a_dead_letter(world: World, value: bytes | None, code: str) -> None:
    await world.merge(value, packed(Ack("ann", "phone", LOG, 1, 0)))
    assert [code for code, _ in world.letters] == [code]
    assert world.cursors.waiting() == 1
