"""Sessions on real servers, seen as a gateway does: how many a user has, where devices begin, and what is bad."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from schemas import bus
from schemas.bus import Heard, HeardPart
from schemas.records import Ack, Acks, Connected, SyncRequest, encode
from schemas.records import Sync as SyncRecord
from schemas.rows import Cursor
from tests.integration.worker.conftest import Deployment, home, until

GATEWAY = "g1"


class Heardings:
    """What a gateway hears."""

    def __init__(self, pubsub: Any) -> None:
        self._pubsub = pubsub
        self._parts: list[HeardPart] = []

    def parts(self) -> list[HeardPart]:
        while (message := self._pubsub.get_message(timeout=0.01)) is not None:
            if message["type"] == "message":
                heard = bus.decode(message["data"])
                self._parts += heard.parts if isinstance(heard, Heard) else []
        return self._parts

    def refused(self) -> set[str]:
        return {refusal.session for part in self.parts() for refusal in part.refusals if refusal.code == 4007}

    def opened(self) -> dict[str, dict[str, int]]:
        """After which seq each log of a session begins."""
        openings = [opening for part in self.parts() for opening in part.openings]
        return {opening.session: {log.log: log.after for log in opening.logs} for opening in openings}

    def delivered(self, seq: int) -> set[str]:
        """The sessions that were sent an entry."""
        deliveries = [one for part in self.parts() for one in bus.decode_deliveries(part.deliveries)]
        return {s for one in deliveries if any(run.first <= seq <= run.last for run in one.runs) for s in one.sessions}

    def answered(self) -> set[str]:
        return {answer.session for part in self.parts() for answer in part.answers}


@contextmanager
def gateway(deployment: Deployment) -> Iterator[Heardings]:
    client: Any = redis.Redis.from_url(deployment.environment()["TOCSIN_REDIS"])
    with client.pubsub() as pubsub:
        client.set(bus.lease_key(deployment.prefix, GATEWAY), b"{}")
        pubsub.subscribe(bus.gateway_channel(deployment.prefix, GATEWAY))
        until(lambda: (pubsub.get_message(timeout=0.1) or {}).get("type") == "subscribe")
        yield Heardings(pubsub)
    client.close()


def connected(user: str, session: str, device: str = "phone") -> tuple[bytes, bytes]:
    return user.encode(), encode(Connected(user=user, session=session, gateway=GATEWAY, device=device))


def say(deployment: Deployment, user: str, records: Iterable[tuple[bytes, bytes]], topic: str = "connections") -> int:
    """Write records of a user and return the offset of the last."""
    return deployment.send_all(records, topic=topic, partition=home(user))


def test_4000_sessions_of_one_user_neither_end_a_worker_nor_keep_it_from_starting(deployment: Deployment) -> None:
    deployment.start(TOCSIN_LIMIT_USER_SESSIONS="100000")
    deployment.wait_until_ready()
    with gateway(deployment) as heard:
        records = [connected("eve", f"{'s' * 290}-{number}", f"{number:064}") for number in range(4_000)]
        last = say(deployment, "eve", records)
        until(lambda: deployment.committed("connections", home("eve")) > last or deployment.ended(), 60)
        assert not deployment.ended(), deployment.said()
        assert deployment.stop() == 0
        deployment.start(TOCSIN_LIMIT_USER_SESSIONS="100000")
        deployment.wait_until_ready()
        deployment.send_note("eve", partition=home("eve"))
        until(lambda: len(heard.delivered(1)) == 4_000)
    changelog = deployment.written("tocsin-inbox-connections-changelog")
    assert max(len(record.value or b"") for record in changelog) < 64 * 1024


def test_a_session_beyond_the_limit_is_refused_and_others_are_not(running: Deployment) -> None:
    with gateway(running) as heard:
        say(running, "u-many", [connected("u-many", f"m{number}") for number in range(103)])
        say(running, "u-few", [connected("u-few", "few")])
        until(lambda: len(heard.refused()) == 3)
        until(lambda: heard.opened().keys() >= {"few", "m0", "m99"})
        assert heard.refused() == {"m100", "m101", "m102"}


def test_what_comes_while_a_device_is_away_waits_for_it_although_it_never_acknowledged(running: Deployment) -> None:
    with gateway(running) as heard:
        say(running, "u-dev", [connected("u-dev", "d1", "phone"), connected("u-dev", "d2", "")])
        until(lambda: heard.opened().keys() >= {"d1", "d2"})
        for _ in range(3):
            running.send_note("u-dev", partition=home("u-dev"))
        running.expect_rows("u-dev", 3)
        acks = [Ack("u-dev", "tv", "inbox/normal", 2, 1), Ack("u-dev", "", "inbox/normal", 3, 3)]
        say(running, "u-dev", [(b"u-dev", encode(Acks(gateway=GATEWAY, acks=acks)))], topic="acks")
        expected = [Cursor("u-dev", "inbox/normal", "", 2, 3), Cursor("u-dev", "inbox/normal", "tv", 2, 1)]
        until(lambda: running.cursors("u-dev") == expected)
        sessions = {"d3": "phone", "d4": "tv", "d5": "new", "d6": ""}
        say(running, "u-dev", [connected("u-dev", session, device) for session, device in sessions.items()])
        until(lambda: heard.opened().keys() >= sessions.keys())
        begins = {session: heard.opened()[session]["inbox/normal"] for session in sessions}
        assert begins == {"d3": 0, "d4": 2, "d5": 2, "d6": 2}


def test_a_bad_request_among_others_takes_none_with_it(running: Deployment) -> None:
    with gateway(running) as heard:
        wanted = [SyncRequest("u-sync", f"y{number}", "phone", "inbox/normal", 0, 10) for number in range(20)]
        value = encode(SyncRecord(gateway=GATEWAY, syncs=wanted)).replace(b'"y7","phone"', b'"y7","\\ud800"')
        say(running, "u-sync", [(b"u-sync", value)])
        until(lambda: len(heard.answered()) == 19)
        assert "y7" not in heard.answered()
