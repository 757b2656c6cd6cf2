"""Histories that tests tell: a log with one writer and devices that see it as the protocol says."""

from typing import Any

from proof.history import (
    Ack,
    AnyEvent,
    AtEnd,
    Connected,
    DeadLetter,
    Entry,
    Failed,
    Gap,
    Produce,
    Produced,
    Reset,
    Skip,
    Status,
    TooLong,
    Unknown,
)  # fmt: skip

LOG = "inbox/normal"
USER = "u1"


class Story:
    """Each method adds one event, a ms after the one before."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self._ops = 0
        self._offsets = 0

    def _at(self) -> float:
        return len(self.events) / 1000

    def connect(self, device: str, *, head: int = 0, epoch: str = "e") -> None:
        self.events.append(Connected(at=self._at(), user=USER, device=device, epoch=epoch, heads={LOG: head}))

    def ask(self, id_: str, **more: Any) -> int:
        self._ops += 1
        self.events.append(Produce(at=self._at(), op=self._ops, user=USER, lane="normal", id=id_, **more))
        return self._ops

    def take(self, op: int, *, partition: int = 0) -> int:
        self._offsets += 1
        self.events.append(Produced(at=self._at(), op=op, partition=partition, offset=self._offsets))
        return self._offsets

    def produce(self, *ids: str, **more: Any) -> None:
        for id_ in ids:
            self.take(self.ask(id_, **more))

    def fail(self, id_: str) -> None:
        self.events.append(Failed(at=self._at(), op=self.ask(id_)))

    def leave_open(self, id_: str) -> None:
        self.events.append(Unknown(at=self._at(), op=self.ask(id_)))

    def entry(self, device: str, seq: int, id_: str, *, shown: bool = True) -> None:
        self.events.append(Entry(at=self._at(), user=USER, device=device, log=LOG, seq=seq, id=id_, shown=shown))

    def show(self, device: str, *ids: str, first: int = 1) -> None:
        for seq, id_ in enumerate(ids, first):
            self.entry(device, seq, id_)

    def skip(self, device: str, first: int, last: int, reason: str = "other_device") -> None:
        self.events.append(
            Skip(at=self._at(), user=USER, device=device, log=LOG, first=first, last=last, reason=reason)
        )

    def gap(self, device: str, first: int, last: int) -> None:
        self.events.append(Gap(at=self._at(), user=USER, device=device, log=LOG, first=first, last=last))

    def too_long(self, device: str, head: int) -> None:
        self.events.append(TooLong(at=self._at(), user=USER, device=device, log=LOG, head=head))

    def reset(self, device: str, head: int) -> None:
        self.events.append(Reset(at=self._at(), user=USER, device=device, log=LOG, head=head))

    def ack(self, device: str, seq: int) -> None:
        self.events.append(Ack(at=self._at(), user=USER, device=device, log=LOG, seq=seq))

    def status(self, id_: str, state: str, reason: str) -> None:
        self.events.append(Status(at=self._at(), user=USER, id=id_, state=state, reason=reason))

    def dead_letter(self, offset: int, reason: str = "not_json", *, partition: int = 0) -> None:
        self.events.append(
            DeadLetter(at=self._at(), topic="notifications.normal", partition=partition, offset=offset, reason=reason)
        )

    def end(self, *devices: str) -> list[AnyEvent]:
        for device in devices:
            self.events.append(AtEnd(at=self._at(), user=USER, device=device))
        return self.events


def story(*devices: str) -> Story:
    """A story whose devices are there from the beginning."""
    told = Story()
    for device in devices:
        told.connect(device)
    return told
