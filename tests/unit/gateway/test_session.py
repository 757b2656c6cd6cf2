import json
from typing import Any

import pytest

from gateway import codes
from gateway.effects import Acknowledge, AskSync, CheckToken, CloseWith, Connect, SameToken, SessionEffect
from gateway.reading import HARD, SOFT
from gateway.session import Identity, Session
from schemas.bus import GAP, Answer, LogOpening, Opening, Run

LOG = "inbox/normal"
BULK = "inbox/bulk"


def session(*, hello: bool = False, device: str | None = None, ttl: float = 600.0) -> Session:
    return Session(Identity("s1", "g1", "u1", device), ttl=ttl, heartbeat=25, now=0.0, hello=hello)


def opened(after: int = 0, head: int = 0, notice: str = "") -> Session:
    one = session()
    one.open(opening(after, head, notice), 0.0)
    spoken(one)
    effects(one)
    return one


def opening(after: int = 0, head: int = 0, notice: str = "", epoch: str = "e1") -> Opening:
    return Opening("s1", epoch, [LogOpening(LOG, after, head, head - after, notice), LogOpening(BULK, 0, 0, 0)])


def run(seq: int, log: str = LOG, size: int = 0) -> Run:
    frame = json.dumps({"type": "notification", "log": log, "seq": seq, "pad": "x" * size})
    return Run(log, seq, seq, 1000 + seq, frame.encode())


def spoken(one: Session, buffered: int = 0) -> list[dict[str, Any]]:
    """Flush: return the frames that were sent; the transport holds `buffered` bytes after that."""
    frames, one.out.frames, one.out.entries = one.out.frames, [], []
    if frames:
        one.buffered(buffered, 0.0)
    return [json.loads(frame) for frame in frames]


def effects(one: Session) -> list[SessionEffect]:
    found, one.out.effects = one.out.effects, []
    return found


def said(one: Session, now: float = 0.0, **frame: object) -> list[dict[str, Any]]:
    one.receive(json.dumps(frame).encode(), now)
    return spoken(one)


def seqs(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["seq"] for frame in frames]


class TestOpening:
    def test_starts_at_once_from_the_stored_cursors(self) -> None:
        assert effects(session()) == [Connect(None, None)]

    def test_waits_for_hello_and_passes_its_cursors_on(self) -> None:
        one = session(hello=True)
        assert effects(one) == []
        said(one, type="hello", device="phone", epoch="e", cursors={LOG: 3, "chat/1": 9})
        assert effects(one) == [Connect("e", {LOG: 3})]
        assert one.device == "phone"

    def test_a_hello_that_does_not_come_is_not_waited_for_longer_than_5_s(self) -> None:
        one = session(hello=True)
        assert one.due() == 5.0
        one.tick(5.0)
        assert effects(one) == [Connect(None, None)]
        said(one, type="hello")
        assert effects(one) == [CloseWith(codes.PROTOCOL, "hello came too late")]

    def test_a_second_hello_is_refused(self) -> None:
        one = session(hello=True)
        said(one, type="hello")
        assert said(one, type="hello", id=7)[0] == {
            "type": "error",
            "code": "bad_request",
            "message": "`hello` is said once, first, and where the URL has `hello=1`",
            "ref": "7",
        }

    def test_the_device_is_the_token_s_then_the_hello_s_then_none(self) -> None:
        assert session(device="a").device == "a"
        assert session().device == ""
        one = session(hello=True, device="a")
        said(one, type="hello")
        assert one.device == "a"

    def test_a_device_that_contradicts_the_token_ends_the_session(self) -> None:
        one = session(hello=True, device="a")
        frames = said(one, type="hello", device="b")
        assert frames[0]["code"] == "forbidden"
        assert effects(one) == [CloseWith(codes.PROTOCOL, "device contradicts the token")]

    def test_connect_is_said_again_with_back_off_until_it_is_answered(self) -> None:
        one = session()
        effects(one)
        for at in (5.0, 15.0, 35.0, 75.0, 115.0):
            assert one.due() == at
            one.tick(at)
            assert effects(one) == [Connect(None, None)]
        one.open(opening(), 116.0)
        assert one.due() > 500

    def test_connect_is_said_for_days(self) -> None:
        one = session(ttl=1e9)
        for second in range(0, 200_000, 40):
            one.tick(float(second))
            one.out.effects.clear()
        one.tick(200_040.0)
        assert effects(one) == [Connect(None, None)]

    def test_welcome_tells_heads_and_unread(self) -> None:
        one = session()
        one.open(opening(2, 5), 0.0)
        assert spoken(one) == [
            {
                "type": "welcome",
                "session": "s1",
                "user": "u1",
                "device": "",
                "epoch": "e1",
                "heads": {LOG: 5, BULK: 0},
                "cursors": {LOG: 2, BULK: 0},
                "unread": {LOG: 3, BULK: 0},
                "heartbeat": 25.0,
                "gateway": "g1",
                "expires_in": 600.0,
            }
        ]

    @pytest.mark.parametrize("notice", ["reset", "too_long"])
    def test_a_notice_follows_welcome_and_delivery_goes_on_after_it(self, notice: str) -> None:
        one = session()
        one.deliver([run(8)], 0.0)
        one.open(opening(7, 7, notice), 0.0)
        welcome, told, entry = spoken(one)
        assert welcome["type"] == "welcome"
        assert told == {"type": notice, "log": LOG, "head": 7}
        assert entry["seq"] == 8

    def test_entries_that_come_before_the_opening_are_held(self) -> None:
        one = session()
        one.deliver([run(4), run(3)], 0.0)
        assert spoken(one) == []
        one.open(opening(2, 4), 0.0)
        assert seqs(spoken(one)[1:]) == [3, 4]

    def test_an_opening_that_comes_again_only_tells_heads(self) -> None:
        one = opened()
        one.open(opening(0, 2), 1.0)
        assert spoken(one) == []
        assert effects(one) == [AskSync(LOG, 0, 500, asked=False)]

    def test_another_store_ends_the_session(self) -> None:
        one = opened()
        one.open(opening(epoch="e2"), 1.0)
        assert effects(one) == [CloseWith(codes.RESTART, "restart")]


class TestOrder:
    def test_in_order_goes_out_and_below_is_dropped(self) -> None:
        one = opened()
        one.deliver([run(1), run(1), run(2), run(1)], 0.0)
        assert seqs(spoken(one)) == [1, 2]
        assert effects(one) == []

    def test_a_hole_is_asked_for_once_and_what_is_above_is_held(self) -> None:
        one = opened()
        one.deliver([run(3)], 0.0)
        one.deliver([run(4)], 0.1)
        assert spoken(one) == []
        assert effects(one) == [AskSync(LOG, 0, 500, asked=False)]
        one.answer(Answer("s1", LOG, 0, 4, [run(1), run(2)]), 0.2)
        assert seqs(spoken(one)) == [1, 2, 3, 4]
        assert effects(one) == []

    def test_an_ask_without_answer_is_repeated_with_back_off(self) -> None:
        one = opened()
        one.deliver([run(2)], 0.0)
        assert len(effects(one)) == 1
        asked = []
        for _ in range(5):
            asked.append(one.due())
            one.tick(one.due())
            assert len(effects(one)) == 1
        assert asked == [1.0, 3.0, 7.0, 15.0, 23.0]

    def test_asks_go_on_for_days(self) -> None:
        one = session(ttl=1e9)
        one.open(opening(), 0.0)
        spoken(one)
        one.deliver([run(2)], 0.0)
        for second in range(0, 200_000, 8):
            one.tick(float(second))
            one.out.effects.clear()
        one.tick(200_008.0)
        assert effects(one) == [AskSync(LOG, 0, 500, asked=False)]

    def test_an_answer_that_brings_nothing_is_not_followed_by_the_same_ask_at_once(self) -> None:
        one = opened()
        one.deliver([run(2)], 0.0)
        effects(one)
        one.answer(Answer("s1", LOG, 0, 2, []), 0.1)
        assert effects(one) == []
        assert one.due() == 1.0

    def test_a_skip_is_cut_to_begin_at_what_is_expected(self) -> None:
        one = opened()
        one.deliver([run(1), Run(LOG, 1, 4, reason="expired"), run(5)], 0.0)
        assert spoken(one)[1:] == [
            {"type": "skip", "log": LOG, "from": 2, "to": 4, "reason": "expired"},
            {"type": "notification", "log": LOG, "seq": 5, "pad": ""},
        ]

    def test_the_backlog_is_paged(self) -> None:
        one = session()
        effects(one)
        one.open(opening(0, 1200), 0.0)
        assert effects(one) == []  # the worker sends the first window by itself
        one.deliver([*map(run, range(1, 201)), Run(LOG, 201, 1200, reason=GAP)], 0.0)
        assert effects(one) == [AskSync(LOG, 200, 500, asked=False)]
        one.answer(Answer("s1", LOG, 200, 1200, [run(n) for n in range(201, 701)]), 0.1)
        assert effects(one) == [AskSync(LOG, 700, 500, asked=False)]
        one.answer(Answer("s1", LOG, 700, 1200, [run(n) for n in range(701, 1201)]), 0.2)
        assert effects(one) == []
        assert seqs(spoken(one)[1:]) == list(range(1, 1201))

    def test_a_window_that_does_not_come_is_asked_for(self) -> None:
        one = session()
        effects(one)
        one.open(opening(0, 3), 0.0)
        one.tick(one.due())
        assert effects(one) == [AskSync(LOG, 0, 500, asked=False)]

    def test_held_runs_are_bounded_and_what_was_dropped_is_asked_for(self) -> None:
        one = opened()
        one.deliver([run(seq, size=1000) for seq in range(2, 2000)], 0.0)
        assert len(one.readings[LOG]._held) < 300
        effects(one)
        one.answer(Answer("s1", LOG, 0, 1999, [run(1, size=1000)]), 0.1)
        last = spoken(one)[-1]["seq"]
        assert effects(one) == [AskSync(LOG, last, 500, asked=False)]

    def test_suspicion_asks_even_though_no_hole_is_known(self) -> None:
        one = opened()
        one.suspect(0.0)
        assert effects(one) == [AskSync(LOG, 0, 500, asked=False), AskSync(BULK, 0, 500, asked=False)]
        one.answer(Answer("s1", LOG, 0, 0, []), 0.1)
        one.answer(Answer("s1", BULK, 0, 0, []), 0.1)
        assert effects(one) == []
        assert one.due() > 500

    def test_suspicion_before_the_opening_is_kept(self) -> None:
        one = session()
        effects(one)
        one.suspect(0.0)
        one.open(opening(), 0.1)
        assert AskSync(LOG, 0, 500, asked=False) in effects(one)

    def test_other_logs_are_not_for_this_session(self) -> None:
        one = opened()
        one.deliver([Run("chat/1", 1, 1, frame=b"{}")], 0.0)
        one.answer(Answer("s1", "chat/1", 0, 1, []), 0.0)
        assert spoken(one) == []

    def test_latency_is_told_of_what_was_appended_after_the_opening_only(self) -> None:
        one = session()
        one.open(opening(0, 1), 0.0)
        one.deliver([run(1), run(2)], 0.0)
        assert one.out.entries == [(LOG, 0), (LOG, 1002)]


class TestSlowClients:
    def test_bulk_is_held_back_first(self) -> None:
        one = opened()
        one.buffered(SOFT, 0.0)
        one.deliver([run(1, BULK), run(1)], 0.0)
        assert [frame["log"] for frame in spoken(one, SOFT)] == [LOG]
        assert effects(one) == []

    def test_everything_is_held_back_over_the_hard_limit_and_comes_in_order_when_it_drains(self) -> None:
        one = opened()
        one.buffered(HARD, 0.0)
        one.deliver([run(1), run(2)], 0.0)
        assert (spoken(one), effects(one)) == ([], [])
        one.buffered(0, 1.0)
        assert effects(one) == [AskSync(LOG, 0, 500, asked=False)]
        one.answer(Answer("s1", LOG, 0, 2, [run(1), run(2)]), 1.1)
        assert seqs(spoken(one)) == [1, 2]

    def test_nothing_is_kept_for_a_transport_that_is_stuck(self) -> None:
        one = opened()
        one.deliver([run(seq, size=10_000) for seq in range(1, 60)], 0.0)
        assert one.readings[LOG]._held
        spoken(one, HARD)
        assert not one.readings[LOG]._held
        one.deliver([run(60)], 0.0)
        assert not one.readings[LOG]._held

    def test_what_the_transport_takes_at_once_is_not_asked_for_again(self) -> None:
        one = opened()
        one.deliver([run(seq, size=10_000) for seq in range(1, 41)], 0.0)
        found: list[int] = []
        while frames := spoken(one):
            found += seqs(frames)
        assert found == list(range(1, 41))
        assert effects(one) == []

    def test_a_transport_that_is_stuck_for_20_s_ends_the_session(self) -> None:
        one = opened()
        one.buffered(HARD, 3.0)
        one.buffered(HARD + 1, 10.0)
        assert one.due() == 23.0
        one.tick(23.0)
        assert effects(one) == [CloseWith(codes.SLOW, "slow consumer")]

    def test_a_transport_that_drains_in_time_does_not(self) -> None:
        one = opened()
        one.buffered(HARD, 3.0)
        one.buffered(SOFT, 10.0)
        one.tick(24.0)
        assert effects(one) == []


class TestSync:
    def test_a_page_that_reaches_the_head_ends_with_synced(self) -> None:
        one = opened(3, 3)
        said(one, type="sync", log=LOG, after=1)
        assert effects(one) == [AskSync(LOG, 1, 500, asked=True)]
        one.answer(Answer("s1", LOG, 1, 3, [run(2), run(3)], asked=True), 0.1)
        one.deliver([run(4)], 0.2)
        frames = spoken(one)
        assert seqs(frames[:2]) == [2, 3]
        assert frames[2] == {"type": "synced", "log": LOG, "head": 3}
        assert frames[3]["seq"] == 4

    def test_a_page_that_ends_before_the_head_ends_with_gap_and_parks_the_log(self) -> None:
        one = opened(9, 9)
        said(one, type="sync", log=LOG, after=0, limit=2)
        assert effects(one) == [AskSync(LOG, 0, 2, asked=True)]
        one.answer(Answer("s1", LOG, 0, 9, [run(1), run(2)], asked=True), 0.1)
        assert spoken(one)[2:] == [{"type": "gap", "log": LOG, "from": 3, "to": 9}]
        one.deliver([run(10)], 0.2)
        assert spoken(one) == [{"type": "gap", "log": LOG, "from": 3, "to": 10}]
        assert effects(one) == []
        said(one, type="sync", log=LOG, after=2)
        one.answer(Answer("s1", LOG, 2, 10, [run(n) for n in range(3, 11)], asked=True), 0.3)
        one.deliver([run(11)], 0.4)
        frames = spoken(one)
        assert seqs([*frames[:8], frames[9]]) == list(range(3, 12))
        assert frames[8] == {"type": "synced", "log": LOG, "head": 10}

    def test_a_page_in_several_answers(self) -> None:
        one = opened(1000, 1000)
        said(one, type="sync", log=LOG, after=0, limit=700)
        assert effects(one) == [AskSync(LOG, 0, 500, asked=True)]
        one.answer(Answer("s1", LOG, 0, 1000, [run(n) for n in range(1, 501)], asked=True), 0.1)
        assert effects(one) == [AskSync(LOG, 500, 200, asked=True)]
        one.answer(Answer("s1", LOG, 500, 1000, [run(n) for n in range(501, 701)], asked=True), 0.1)
        assert spoken(one)[-1] == {"type": "gap", "log": LOG, "from": 701, "to": 1000}

    def test_a_place_beyond_the_head_is_reset(self) -> None:
        one = opened(3, 3)
        said(one, type="sync", log=LOG, after=100)
        one.answer(Answer("s1", LOG, 100, 3, [], asked=True), 0.1)
        assert spoken(one) == [{"type": "reset", "log": LOG, "head": 3}]
        one.deliver([run(4)], 0.2)
        assert seqs(spoken(one)) == [4]

    def test_the_answer_to_an_older_sync_does_not_end_the_newer_one(self) -> None:
        one = opened(5, 5)
        said(one, type="sync", log=LOG, after=0)
        said(one, type="sync", log=LOG, after=3)
        one.answer(Answer("s1", LOG, 0, 5, [run(1), run(2), run(3)], asked=True), 0.1)
        assert spoken(one) == []
        one.answer(Answer("s1", LOG, 3, 5, [run(4), run(5)], asked=True), 0.2)
        assert [frame["type"] for frame in spoken(one)] == ["notification", "notification", "synced"]

    @pytest.mark.parametrize("log", ["inbox/other", "chat/1", "inbox/normal/u2"])
    def test_a_log_that_is_not_the_user_s_inbox_is_forbidden(self, log: str) -> None:
        assert said(opened(), type="sync", log=log, after=0)[0]["code"] == "forbidden"

    def test_before_welcome_there_is_nothing_to_sync(self) -> None:
        assert said(session(), type="sync", log=LOG, after=0)[0]["code"] == "bad_request"


class TestClientFrames:
    def test_acks_are_cumulative_and_merged_by_max(self) -> None:
        one = opened(5, 5)
        for kind, seq in (("ack", 3), ("read", 2), ("ack", 1), ("read", 4), ("ack", 3)):
            said(one, type=kind, log=LOG, seq=seq)
        assert effects(one) == [Acknowledge(LOG, 3, 4)]

    def test_an_ack_goes_no_further_than_what_was_sent_or_the_opening_s_head(self) -> None:
        one = opened(2, 5)
        one.deliver([run(3)], 0.0)
        assert said(one, type="ack", log=LOG, seq=6)[-1]["code"] == "bad_request"
        assert effects(one) == []
        said(one, type="ack", log=LOG, seq=5)
        assert effects(one) == [Acknowledge(LOG, 5, 0)]

    def test_ping_is_answered(self) -> None:
        assert said(opened(), type="ping") == [{"type": "pong"}]

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"{", "bad_json"),
            (b"[1]", "bad_request"),
            (b'{"type":"dance"}', "unknown_type"),
            (b'{"type":"ack","log":"inbox/normal","seq":-1}', "bad_request"),
            (b'{"type":"sync"}', "bad_request"),
        ],
    )
    def test_a_bad_frame_is_answered_and_the_session_goes_on(self, data: bytes, code: str) -> None:
        one = opened()
        one.receive(data, 0.0)
        assert spoken(one)[0]["code"] == code
        assert said(one, type="ping") == [{"type": "pong"}]

    def test_a_frame_over_64_kib_ends_the_session(self) -> None:
        one = opened()
        one.receive(b'"' + b"x" * 65_536 + b'"', 0.0)
        assert effects(one) == [CloseWith(codes.TOO_LARGE, "message too large")]

    def test_more_than_the_burst_ends_the_session_and_the_rate_does_not(self) -> None:
        one = opened()
        for second in range(100):
            for _ in range(50):
                said(one, now=float(second), type="ping")
        assert effects(one) == []
        for _ in range(201):
            said(one, now=100.0, type="ping")
        assert effects(one) == [CloseWith(codes.RATE, "rate exceeded")]

    def test_errors_cost_more(self) -> None:
        one = opened()
        for _ in range(40):
            one.receive(b"{", 0.0)
        assert effects(one) == [CloseWith(codes.RATE, "rate exceeded")]

    def test_after_the_end_nothing_is_said(self) -> None:
        one = opened()
        one.drain(500)
        assert spoken(one) == [{"type": "reconnect", "after": 500, "to": None}]
        assert effects(one) == [CloseWith(codes.DRAIN, "drain")]
        one.deliver([run(1)], 0.0)
        one.suspect(0.0)
        one.tick(1e9)
        assert said(one, type="ping") == []
        assert effects(one) == []
        assert one.due() == float("inf")


class TestTokens:
    def test_an_expired_token_ends_the_session(self) -> None:
        one = opened()
        one.tick(540.0)
        assert one.due() == 600.0
        one.tick(600.0)
        assert effects(one) == [CloseWith(codes.EXPIRED, "token expired")]

    @pytest.mark.parametrize(("ttl", "warned"), [(600.0, 540.0), (3_600.0, 3_540.0), (30.0, 27.0), (5.5, 3.5)])
    def test_the_client_is_told_once_before_it_expires(self, ttl: float, warned: float) -> None:
        one = session(ttl=ttl)
        one.open(opening(), 0.0)
        assert spoken(one)[0]["expires_in"] == ttl
        assert one.due() == pytest.approx(warned)
        one.tick(warned - 0.01)
        assert spoken(one) == []
        one.tick(warned + 0.01)
        assert spoken(one) == [{"type": "token_expiring", "expires_in": pytest.approx(ttl - warned - 0.01)}]
        one.tick(warned + 0.02)
        assert spoken(one) == []

    def test_a_new_token_is_warned_of_anew(self) -> None:
        one = opened()
        one.tick(541.0)
        assert [frame["type"] for frame in spoken(one)] == ["token_expiring"]
        one.refresh(600.0, 550.0)
        assert one.due() == 1090.0
        one.tick(1090.0)
        assert spoken(one) == [{"type": "token_expiring", "expires_in": 60.0}]

    def test_nothing_is_said_of_it_before_welcome_and_then_it_is(self) -> None:
        one = session()
        effects(one)
        one.tick(550.0)
        assert spoken(one) == []
        one.open(opening(), 560.0)
        assert spoken(one)[0]["expires_in"] == 40.0
        assert one.due() <= 560.0
        one.tick(560.0)
        assert [frame["type"] for frame in spoken(one)] == ["token_expiring"]

    def test_a_token_in_hello_is_compared_with_the_one_of_the_request(self) -> None:
        one = session(hello=True)
        said(one, type="hello", token="abc")
        assert effects(one) == [SameToken("abc"), Connect(None, None)]

    def test_a_refreshed_token_prolongs_it(self) -> None:
        one = opened()
        said(one, type="refresh", token="abc", id="r")
        assert effects(one) == [CheckToken("abc", "r")]
        one.refresh(600.0, 500.0)
        assert one.due() == 1040.0
        one.tick(1040.0)
        assert one.due() == 1100.0

    def test_a_token_that_is_refused_changes_nothing(self) -> None:
        one = opened()
        one.refuse_token("no", "r", 0.0)
        assert spoken(one) == [{"type": "error", "code": "unauthorized", "message": "no", "ref": "r"}]
        assert one.due() == 540.0

    def test_only_the_same_user_and_device_may_prolong(self) -> None:
        one = session(device="a")
        assert one.accepts("u1", None)
        assert one.accepts("u1", "a")
        assert not one.accepts("u1", "b")
        assert not one.accepts("u2", None)
