"""How many connections are taken from whom, and that what is remembered of them is bounded."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import AddressLimits, Admission, Caller, Overload
from gateway.allowance import Allowance, Quotas
from gateway.bucket import Limits
from gateway.ledger import Ledger

ANY = Quotas(None, None, None, None)
PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


def admission(quotas: Quotas = ANY, **limits: object) -> Admission:
    return Admission(AddressLimits(**{"exempt": (), "connections": None, **limits}), quotas)  # type: ignore[arg-type]


def entered(one: Admission, peer: str, now: float = 1.0, user: str = "u", **headers: str) -> Caller | Overload:
    """Return a caller that has become a session, or what was in its way."""
    caller = one.arrive(peer, now)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    over = caller.ask(named, now) or caller.seat(user, now)
    if over is not None:
        caller.leave(now)
        return over
    return caller


def limit_of(found: Caller | Overload) -> str:
    assert isinstance(found, Overload), "it was let in"
    return found.limit


class TestAddresses:
    def test_sessions_are_bounded_and_come_back(self) -> None:
        one = admission(sessions=2)
        first, _ = entered(one, "192.0.2.1"), entered(one, "192.0.2.1")
        assert limit_of(entered(one, "192.0.2.1")) == "address_sessions"
        assert isinstance(entered(one, "192.0.2.2"), Caller)
        assert isinstance(first, Caller)
        for _ in range(2):
            first.leave(2.0)
        assert isinstance(entered(one, "192.0.2.1"), Caller)
        assert limit_of(entered(one, "192.0.2.1")) == "address_sessions"

    def test_connections_whose_request_is_not_whole_are_bounded(self) -> None:
        one = admission(opening=2)
        slow = [one.arrive("192.0.2.1", 1.0) for _ in range(3)]
        assert [caller.shut_out for caller in slow] == [False, False, True]
        slow[2].leave(1.0)
        assert one.arrive("192.0.2.1", 1.0).shut_out
        slow[0].opened(1.0)
        assert not one.arrive("192.0.2.1", 1.0).shut_out

    def test_a_connection_is_counted_as_one_without_a_session_until_it_has_one(self) -> None:
        one = admission(opening=2, sessions=1)
        first, second = one.arrive("192.0.2.1", 1.0), one.arrive("192.0.2.1", 1.0)
        assert first.ask({}, 1.0) is second.ask({}, 1.0) is None
        assert one.arrive("192.0.2.1", 1.0).shut_out  # both requests are whole, but nobody knows yet whose they are
        assert first.seat("u", 1.0) is None
        assert (
            limit_of(second.seat("u", 1.0) or second) == "address_sessions"
        )  # the room that it was let in for is taken
        assert not one.arrive("192.0.2.1", 1.0).shut_out
        assert one.arrive("192.0.2.1", 1.0).shut_out  # and the second one is there until it has left
        first.leave(2.0)
        second.leave(2.0)
        assert not one.arrive("192.0.2.1", 2.0).shut_out

    def test_those_who_are_too_many_may_stay_to_read_it_and_are_bounded(self) -> None:
        one = admission(opening=2)
        callers = [one.arrive("192.0.2.1", 1.0) for _ in range(5)]
        assert [caller.shut_out for caller in callers] == [False] * 2 + [True] * 3
        assert [caller.lingers for caller in callers] == [True] * 4 + [False]
        callers[2].leave(1.0)
        assert one.arrive("192.0.2.1", 1.0).lingers
        for caller in callers[:2]:
            caller.leave(1.0)
        assert not one.arrive("192.0.2.1", 1.0).shut_out

    def test_new_connections_have_a_rate_and_waiting_helps(self) -> None:
        one = admission(connections=Limits(rate=2, burst=4))
        found = [entered(one, "192.0.2.1") for _ in range(6)]
        assert [isinstance(each, Caller) for each in found] == [True] * 4 + [False] * 2
        over = found[-1]
        assert isinstance(over, Overload)
        assert (over.limit, over.retry_after, over.text) == (
            "address_connections", 1, "too many new connections from this address"
        )  # fmt: skip
        assert isinstance(entered(one, "192.0.2.1", now=1.0 + over.wait), Caller)

    def test_an_address_may_have_many_users_and_a_user_many_addresses(self) -> None:
        one = admission(Quotas(Limits(1, 3), None, None, None))
        for number in range(3):
            assert isinstance(entered(one, f"192.0.2.{number}", user="u"), Caller)
        assert limit_of(entered(one, "192.0.2.9", user="u")) == "user_connections"
        assert isinstance(entered(one, "192.0.2.9", user="v"), Caller)

    @pytest.mark.parametrize(
        ("first", "second", "same"),
        [
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
            ("fe80::1%eth0", "fe80::2%eth1", True),
            ("192.0.2.1", "192.0.2.2", False),
        ],
    )
    def test_ipv6_is_counted_by_64_and_ipv4_in_it_as_ipv4(self, first: str, second: str, same: bool) -> None:
        one = admission(sessions=1)
        entered(one, first)
        assert isinstance(entered(one, second), Caller) is not same

    def test_loopback_is_exempt_unless_a_setting_says_otherwise(self) -> None:
        one = Admission(AddressLimits(sessions=1, opening=1, connections=Limits(1, 1)))
        for peer in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"):
            assert all(isinstance(entered(one, peer), Caller) for _ in range(3))
        assert not len(one.hosts)
        counted = admission(sessions=1)
        entered(counted, "::1")
        assert limit_of(entered(counted, "::1")) == "address_sessions"


class TestProxies:
    @pytest.mark.parametrize(
        ("said", "client"),
        [
            ("198.51.100.1", "198.51.100.1"),
            ("198.51.100.1:4711", "198.51.100.1"),
            ("spoofed, 203.0.113.9 , 198.51.100.1", "198.51.100.1"),
            ("203.0.113.9, 198.51.100.1, 10.1.2.3,fd00::5", "198.51.100.1"),
            ("[2001:db8::1]:443", "2001:db8::/64"),
            ("[2001:db8::2]", "2001:db8::/64"),
            ("2001:db8::3", "2001:db8::/64"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("10.9.9.9, 10.0.0.2", "10.9.9.9"),
            ("203.0.113.9, unknown", None),
            ("", None),
            (",", None),
            ("9" * 5_000, None),
        ],
    )
    def test_the_client_is_the_last_hop_that_is_no_proxy(self, said: str, client: str | None) -> None:
        assert admission(proxies=PROXIES).forwarded({"X-Forwarded-For": said}) == client

    def test_behind_a_proxy_each_client_is_counted_and_not_the_proxy(self) -> None:
        one = admission(proxies=PROXIES, sessions=1, opening=1)
        waiting = [one.arrive("10.0.0.1", 1.0) for _ in range(5)]
        assert not any(caller.shut_out for caller in waiting)
        assert isinstance(entered(one, "10.0.0.1", X_Forwarded_For="198.51.100.1"), Caller)
        assert limit_of(entered(one, "10.0.0.1", X_Forwarded_For="x, 198.51.100.1")) == "address_sessions"
        unproved = one.arrive("10.0.0.1", 1.0)
        assert unproved.ask({"X-Forwarded-For": "198.51.100.3"}, 1.0) is None
        assert limit_of(entered(one, "10.0.0.1", X_Forwarded_For="198.51.100.3")) == "address_opening"
        assert isinstance(entered(one, "10.0.0.1", X_Forwarded_For="198.51.100.2"), Caller)

    @pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.1"])
    def test_whoever_is_no_proxy_is_not_believed(self, peer: str) -> None:
        one = Admission(AddressLimits(sessions=1, proxies=PROXIES, connections=None), ANY)
        found = [entered(one, peer, X_Forwarded_For=f"198.51.100.{number}") for number in (1, 2)]
        assert isinstance(found[1], Caller) is (peer == "127.0.0.1")  # which is exempt
        assert len(one.hosts) == (peer != "127.0.0.1")


class TestGrowth:
    def test_an_attacker_with_every_address_fills_no_memory(self) -> None:
        one = admission(connections=Limits(0.001, 10))
        for number in range(80_000):
            caller = entered(one, f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1", user=f"u{number % 7}")
            assert isinstance(caller, Caller)
            caller.leave(1.0)
        assert 60_000 < len(one.hosts) <= 65_536

    def test_nothing_is_remembered_of_those_who_have_left_once_their_budgets_are_whole(self) -> None:
        one = admission(Quotas(Limits(1, 10)), connections=Limits(1, 10))
        callers = [entered(one, f"192.0.{number >> 8}.{number & 255}", user=f"u{number}") for number in range(10_000)]
        for caller in callers:
            assert isinstance(caller, Caller)
            caller.leave(3.0)
        one.forget(5.0)
        assert (len(one.hosts), len(one.users)) == (0, 0)

    @given(st.lists(st.tuples(st.sampled_from("hlos"), st.integers(0, 5), st.floats(0, 3)), max_size=200))
    def test_a_ledger_keeps_what_is_used_and_is_bounded(self, steps: list[tuple[str, int, float]]) -> None:
        ledger, held, now = Ledger(lambda: Allowance(Quotas(Limits(1, 1)))), dict[str, list[Allowance]](), 0.0
        ledger._most = 2
        for step, number, later in steps:
            name, now = f"u{number}", now + later
            if step == "h":
                held.setdefault(name, []).append(ledger.hold(name))
            elif step == "l" and held.get(name):
                held[name].pop()
                ledger.let_go(name, now)
            elif step == "o":
                ledger.of(name, now).connect(now)
            used = {name: accounts for name, accounts in held.items() if accounts}
            for name, accounts in used.items():
                assert all(account is ledger.of(name, now) for account in accounts)
                assert accounts[0].uses == len(accounts)
            assert len(ledger) <= len(used) + 2
