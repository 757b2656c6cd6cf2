"""The client for browsers in real Chromium, on pages of another origin, against a whole deployment."""

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from store.sqlite import SqliteStore
from tests.browsers import Chromium, Site, Tab, Wire
from tests.system import System, start, stop

LOG = "inbox/normal"


@pytest.fixture(scope="module")
def profile(chromium: Chromium) -> str:
    return chromium.profile()


@pytest.fixture(scope="module")
def other_profile(chromium: Chromium) -> str:
    return chromium.profile()


@pytest.fixture(autouse=True)
def closed(chromium: Chromium) -> Iterator[None]:
    """No page lives longer than its test."""
    yield
    chromium.close_tabs()


@pytest.fixture(scope="module")
def wire(system: System) -> Iterator[Wire]:
    with Wire(system.url) as running:
        yield running


def send(system: System, user: str, key: str, count: int = 1) -> list[str]:
    """Send notifications and return their ids."""
    sent = system.tocsin("send", user, "hello", "--count", str(count), "--key", key)
    assert sent.returncode == 0, sent.stderr
    return [key] if count == 1 else [f"{key}-{n}" for n in range(1, count + 1)]


def connected(chromium: Chromium, profile: str, to: System | Wire, user: str, more: str = "{}") -> Tab:
    tab = chromium.tab(profile)
    tab.start(to.url, user, more)
    tab.open()
    return tab


def kill(system: System, kind: str) -> None:
    for name, pid in system.pids().items():
        if name.startswith(kind):
            os.kill(pid, signal.SIGKILL)


class TestDelivery:
    def test_two_browsers_each_show_what_waited_and_what_is_new(
        self, chromium: Chromium, profile: str, other_profile: str, system: System
    ) -> None:
        waiting = send(system, "two", "waiting", 3)
        tabs = [chromium.tab(each) for each in (profile, other_profile)]
        for tab in tabs:  # the second begins after what the first has acknowledged, if that is known by then
            tab.start(system.url, "two")
            until(lambda tab=tab: tab.run("bell()") == waiting)
        new = send(system, "two", "new", 2)
        for tab in tabs:
            until(lambda tab=tab: tab.run("bell()") == waiting + new)
        devices = [tab.run("localStorage.getItem('tocsin:device')") for tab in tabs]
        assert devices[0] != devices[1]

    def test_3000_that_wait_come_once_in_order(self, chromium: Chromium, profile: str, system: System) -> None:
        ids = send(system, "many", "m", 3_000)
        tab = connected(chromium, profile, system, "many")
        assert tab.shown(3_000, within=60) == ids

    def test_a_page_that_is_loaded_again_is_told_only_what_is_new_and_has_the_last_in_history(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        tab = connected(chromium, profile, system, "again")
        first = send(system, "again", "first", 30)
        assert tab.shown(30) == first
        tab.reload()  # at once: what was handled and not acknowledged yet counts
        tab.start(system.url, "again")
        last = tab.run(f"tocsin.history('{LOG}', {{limit: 20}}).then((entries) => entries.map(({{id}}) => id))")
        assert last == first[-20:]
        new = send(system, "again", "new")
        assert tab.shown(1) == new

    def test_two_tabs_of_one_browser_are_one_device_and_each_shows_all(
        self, chromium: Chromium, profile: str, system: System, wire: Wire
    ) -> None:
        one, other = (connected(chromium, profile, wire, "tabs") for _ in range(2))
        ids = send(system, "tabs", "t", 5)
        assert one.shown(5) == other.shown(5) == ids
        wire.cut()  # each goes on from what it has shown itself
        one.open(2)
        other.open(2)
        one.close()
        more = send(system, "tabs", "more", 2)
        assert other.shown(7) == ids + more
        other.wait(f"Object.values(localStorage).some((kept) => kept.includes('\"{LOG}\":7'))")
        third = connected(chromium, profile, wire, "tabs")
        assert third.run(f"tocsin.history('{LOG}').then((entries) => entries.map(({{id}}) => id))") == ids + more
        assert third.run("shown.length") == 0
        listed = system.tocsin("sessions", "tabs")
        devices = set(re.findall(r"web-[0-9a-f]{24}", listed.stdout))
        assert len(devices) == 1, listed.stdout

    def test_a_page_that_may_keep_nothing_works_while_it_lives(
        self, chromium: Chromium, system: System, wire: Wire
    ) -> None:
        nothing = chromium.profile(blocked=True)
        ids = send(system, "blocked", "b", 3)
        tab = connected(chromium, nothing, wire, "blocked")
        with pytest.raises(AssertionError, match="Access is denied"):
            tab.run("localStorage.length")
        assert tab.shown(3) == ids
        wire.cut()
        tab.open(2)
        after = send(system, "blocked", "after")
        assert tab.shown(4) == ids + after
        assert tab.problems() == []

    def test_a_listener_that_fails_keeps_nothing_from_the_others(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        odd = "if (seq === 2) throw new Error('odd'); return seq === 3 ? Promise.reject(new Error('late')) : null;"
        failing = f"{{listener: ({{seq}}) => {{ {odd} }}}}"
        tab = connected(chromium, profile, system, "throws", failing)
        ids = send(system, "throws", "t", 4)
        assert tab.shown(4) == ids
        tab.wait("troubles.length === 2")
        assert tab.run("troubles") == ["listener: a listener of notification failed"] * 2
        tab.reload()
        tab.start(system.url, "throws")
        after = send(system, "throws", "after")
        assert tab.shown(1) == after, "what failed was told, and does not come again"


class TestHistory:
    def test_it_pages_back_to_the_first_while_new_entries_come(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        old = send(system, "past", "old", 250)
        tab = connected(chromium, profile, system, "past")
        tab.shown(250)
        sending = system.spawn("send", "past", "x", "--count", "150", "--key", "live")
        pages = tab.run(
            f"""(async () => {{
              const pages = [];
              for (let before; before !== 1; before = pages[0][0]?.seq ?? 1)
                pages.unshift(await tocsin.history("{LOG}", {{ before, limit: 20 }}));
              return pages.flat().map(({{id}}) => id);
            }})()"""
        )
        sending.communicate(timeout=60)
        assert pages[:250] == old
        assert len(pages) == len(set(pages))
        assert tab.shown(400) == old + [f"live-{n}" for n in range(1, 151)]

    def test_what_is_asked_for_before_the_connection_does_not_overlap_with_what_is_told(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        tab = connected(chromium, profile, system, "bell")
        seen = send(system, "bell", "seen", 4)
        tab.shown(4)
        tab.close()
        missed = send(system, "bell", "missed", 3)
        tab = chromium.tab(profile)
        tab.start(system.url, "bell")
        last = tab.run(f"tocsin.history('{LOG}').then((entries) => entries.map(({{id}}) => id))")
        assert (last, tab.shown(3)) == (seen, missed)

    def test_unread_is_the_same_on_two_devices_after_read(
        self, chromium: Chromium, profile: str, other_profile: str, system: System
    ) -> None:
        tabs = [connected(chromium, each, system, "unread") for each in (profile, other_profile)]
        send(system, "unread", "u", 5)
        for tab in tabs:
            tab.shown(5)
        unread = f"tocsin.unread['{LOG}']"
        assert [tab.run(unread) for tab in tabs] == [5, 5]
        tabs[0].run(f"tocsin.read('{LOG}', 3)")
        assert tabs[0].run(unread) == 2
        until(lambda: fresh(tabs[1], system, "unread", unread) == 2)
        tabs[0].reload()
        assert fresh(tabs[0], system, "unread", unread) == 2
        assert tabs[0].run(f"tocsin.history('{LOG}').then(() => {unread})") == 2


def until(holds: Any, within: float = 20) -> None:
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, "it does not come true"


async def acknowledged(store: SqliteStore, user: str, seq: int) -> None:
    """Wait until the store has it of the one device that the user names; it keeps a row for the user as well."""
    async with asyncio.timeout(20):
        while [c.delivered for c in (await store.get_cursors([user]))[user] if c.log == LOG and c.device] != [seq]:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.1)


def fresh(tab: Tab, system: System, user: str, code: str) -> Any:
    tab.reload()
    tab.start(system.url, user)
    tab.open()
    return tab.run(code)


class TestFaults:
    def test_gateways_that_are_killed_cost_nothing(self, chromium: Chromium, profile: str, system: System) -> None:
        tab = connected(chromium, profile, system, "killed")
        sending = system.spawn("send", "killed", "x", "--count", "300", "--key", "k")
        kill(system, "gateway")
        tab.open(2)
        sending.communicate(timeout=60)
        assert tab.shown(300) == [f"k-{n}" for n in range(1, 301)]

    def test_a_page_goes_on_with_a_new_token_when_its_own_expires(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        tab = connected(chromium, profile, system, "expires", "{ttl: -4, fails: 2}")  # 5 s are forgiven
        ids = send(system, "expires", "before", 2)
        assert tab.shown(2) == ids
        tab.open(2)
        assert tab.run("tokens") >= 3
        assert "token: the token function failed" in tab.run("troubles")
        after = send(system, "expires", "after", 2)
        assert tab.shown(4) == ids + after
        assert tab.problems() == []

    def test_a_token_is_replaced_before_it_expires(self, chromium: Chromium, profile: str, system: System) -> None:
        tab = connected(chromium, profile, system, "renewed", "{ttl: -2}")  # 5 s are forgiven
        tab.wait("tokens >= 3")
        assert tab.run("states.map(({state}) => state)") == ["connecting", "open"]
        ids = send(system, "renewed", "r")
        assert tab.shown(1) == ids

    def test_a_token_that_is_refused_ends_it_with_a_reason(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        tab = chromium.tab(profile)
        tab.start(system.url, "refused", "{bad: true}")
        tab.wait("tocsin.state === 'denied'")
        last = tab.run("states.at(-1)")
        assert last["code"] == 4101
        assert "token" in last["reason"]
        tab.run("dispatchEvent(new Event('online'))")
        assert tab.run("tokens") == 2, "a new one was asked for, once"

    def test_a_user_that_is_kicked_out_stays_out(self, chromium: Chromium, profile: str, system: System) -> None:
        tab = connected(chromium, profile, system, "kicked")
        assert system.tocsin("kick", "kicked").returncode == 0
        tab.wait("tocsin.state === 'denied'")
        assert tab.run("states.at(-1)") == {"state": "denied", "code": 4103, "reason": "revoked"}
        tab.run("dispatchEvent(new Event('online'))")
        assert tab.run("tokens") == 1
        assert "denied" in tab.run(f"tocsin.history('{LOG}').catch(String)")

    def test_a_page_that_sleeps_shows_what_it_missed_when_it_wakes(
        self, chromium: Chromium, profile: str, system: System, wire: Wire
    ) -> None:
        tab = connected(chromium, profile, wire, "sleeps")
        first = send(system, "sleeps", "first")
        assert tab.shown(1) == first
        chromium.sleep(profile)
        try:
            missed = send(system, "sleeps", "missed", 3)
            wire.cut()
        finally:
            chromium.wake(profile)
        assert tab.shown(4) == first + missed

    def test_a_page_that_wakes_notices_that_its_connection_is_dead(
        self, chromium: Chromium, profile: str, system: System, wire: Wire
    ) -> None:
        tab = connected(chromium, profile, wire, "dead")
        wire.hang()
        chromium.sleep(profile)
        try:
            ids = send(system, "dead", "d", 2)
            time.sleep(6)  # the fault itself: long enough to be seen on the page's clock
        finally:
            chromium.wake(profile)
        tab.wait("states.some(({reason}) => reason === 'no sign of life')", within=15)
        wire.heal()
        assert tab.shown(2) == ids

    def test_a_browser_without_a_network_goes_on_when_it_is_back(
        self, chromium: Chromium, other_profile: str, system: System
    ) -> None:
        tab = connected(chromium, other_profile, system, "offline")
        chromium.offline(other_profile, offline=True)
        ids = send(system, "offline", "o", 2)
        tab.wait("tocsin.state === 'waiting'", within=15)
        chromium.offline(other_profile, offline=False)
        assert tab.shown(2) == ids

    async def test_a_store_of_another_identity_loses_and_repeats_nothing(
        self, chromium: Chromium, profile: str, system: System
    ) -> None:
        """As `tocsin replay rebuild --new-epoch` leaves it: the rows are there, the cursors are not."""
        tab = connected(chromium, profile, system, "epoch")
        ids = send(system, "epoch", "e", 5)
        assert tab.shown(5) == ids
        store = SqliteStore(Path(str(system.ready["store"]).removeprefix("sqlite://")))
        await store.open()
        await acknowledged(store, "epoch", 5)  # one on its way would be kept by the store as it will be
        await store.new_epoch()
        await store.close()
        for part in ("worker", "gateway"):
            kill(system, part)
        after = send(system, "epoch", "after", 3)
        assert tab.shown(8) == ids + after
        assert tab.run(f"resets.some(({{log}}) => log === '{LOG}')")


def test_a_deployment_that_begins_anew_is_gone_on_with(
    chromium: Chromium, profile: str, site: Site, system: System
) -> None:
    """The embedded Kafka and its store are empty after a restart: seqs begin again, in a store of another identity.

    The last test here, since it ends the deployment of the others.
    """
    tab = connected(chromium, profile, system, "anew")
    first = send(system, "anew", "first", 4)
    assert tab.shown(4) == first
    stop(system.process)
    port = str(urlsplit(system.url).port)
    again = start(system.folder, "--stack", "embedded", "--port", port, TOCSIN_ORIGINS=site.origin)
    try:
        second = send(again, "anew", "second", 6)
        assert tab.shown(10) == first + second
        assert tab.run("resets.length") > 0
    finally:
        stop(again.process)
