"""Whatever crashes, freezes, is lost, repeated or slow: each device holds every entry of its logs once, in order.

The machine does anything to the world in any order, down to a worker that stops between two effects and goes on after
another has taken its place. Then all faults end, and within a short time everything has to be where it belongs; and
once more after one new entry a log, which shows that nobody was forgotten.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.bucket import Limits
from schemas.logs import INBOX_LOGS
from streams.limits import Limit
from tests.unit.delivery.servers import PARTITIONS
from tests.unit.delivery.worker import TOPICS, Worker
from tests.unit.delivery.world import DEVICES, World

users = st.sampled_from(["ann", "cat", "bob"])
lanes = st.sampled_from(["normal", "normal", "bulk"])
places = st.integers(0, 3)


class Delivery(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(
        count=st.integers(1, 2),
        backlog=st.sampled_from([10_000, 5]),
        limit=st.sampled_from([None, Limit(4, 8_000_000)]),
        pace=st.sampled_from([None, Limits(rate=2.0, burst=3.0)]),
    )
    def begin(self, count: int, backlog: int, limit: Limit | None, pace: Limits | None) -> None:
        self.world.close()
        self.world = World(backlog, limit, pace)
        self.world.take_over(count=count)
        for number, device in enumerate(self.world.devices):
            self.world.connect(device, self.world.gateways[number % 2])
        self.world.flow()

    # Producers

    @rule(user=users, lane=lanes, count=st.integers(1, 3))
    def produce(self, user: str, lane: str, count: int) -> None:
        for _ in range(count):
            self.world.produce(user, lane)

    @rule(user=users, key=st.sampled_from(["k", "l"]), count=st.integers(1, 4))
    def produce_what_replaces_what_came_before(self, user: str, key: str, count: int) -> None:
        for _ in range(count):
            self.world.produce(user, "bulk", collapse_key=key)

    @rule(user=users, id_=st.sampled_from(["a", "b"]), title=st.sampled_from(["same0000", "other000"]))
    def produce_with_an_id(self, user: str, id_: str, title: str) -> None:
        self.world.produce(user, id=id_, title=title)

    @rule(user=users, device=st.sampled_from(["phone", "web", "nobody"]), lane=lanes)
    def produce_for_one_device(self, user: str, device: str, lane: str) -> None:
        self.world.produce(user, lane, device=device)

    @rule(user=users, partition=st.integers(0, PARTITIONS - 1), id_=st.sampled_from([None, "a"]))
    def produce_anywhere(self, user: str, partition: int, id_: str | None) -> None:
        self.world.produce(user, partition=partition, **({"id": id_, "title": "same0000"} if id_ else {}))

    @rule(user=users, lane=lanes, count=st.integers(1, 6))
    def produce_large(self, user: str, lane: str, count: int) -> None:
        for _ in range(count):
            self.world.produce(user, lane, body="x" * 40_000)

    @rule(user=users)
    def produce_too_late(self, user: str) -> None:
        self.world.produce(user, expires_at="1970-01-01T00:00:00Z")

    @rule(user=users)
    def produce_rubbish(self, user: str) -> None:
        self.world.produce("", partition=0)

    # Workers

    def worker(self, at: int) -> Worker:
        everyone = [*self.world.workers, *self.world.zombies]
        return everyone[at % len(everyone)]

    @rule(at=places, topic=st.sampled_from(TOPICS), limit=st.integers(1, 5), steps=st.integers(0, 30))
    def take(self, at: int, topic: str, limit: int, steps: int) -> None:
        worker = self.worker(at)
        if worker.take(topic, limit):
            worker.step(steps)

    @rule(turns=st.sampled_from([(0,), (1,), (2,), (0, 1, 2)]))
    def turn(self, turns: tuple[int, ...]) -> None:
        """Which of the effects that a batch performs side by side comes first."""
        self.world.concurrency.turns = turns

    @rule(at=places, steps=st.integers(1, 20))
    def step(self, at: int, steps: int) -> None:
        self.worker(at).step(steps)

    @rule(at=places, job=places, steps=st.integers(1, 12))
    def step_beside(self, at: int, job: int, steps: int) -> None:
        self.worker(at).step_beside(job, steps)

    @rule(at=places)
    def work(self, at: int) -> None:
        self.worker(at).work()

    @rule(at=places)
    def commit(self, at: int) -> None:
        worker = self.worker(at)
        if worker in self.world.workers:  # the group refuses the others
            worker.commit()

    @rule(how=st.sampled_from(["clean", "crash", "zombie"]), count=st.integers(1, 2), restart=st.booleans())
    def take_over(self, how: str, count: int, restart: bool) -> None:
        self.world.take_over(how, count, restart=restart)

    @precondition(lambda self: self.world.zombies)
    @rule()
    def end_zombie(self) -> None:
        self.world.zombies.pop(0).end()

    @rule(at=places)
    def beat(self, at: int) -> None:
        self.world.beat(self.worker(at))

    # The bus

    @rule(gateway=st.integers(0, 1), at=st.integers(0, 1))
    def arrive(self, gateway: int, at: int) -> None:
        one = self.world.gateways[gateway]
        if one.bus:
            one.arrive(min(at, len(one.bus) - 1))

    @rule(gateway=st.integers(0, 1))
    def arrive_all(self, gateway: int) -> None:
        while self.world.gateways[gateway].bus:
            self.world.gateways[gateway].arrive()

    @rule(gateway=st.integers(0, 1), at=st.integers(0, 2))
    def lose(self, gateway: int, at: int) -> None:
        queue = self.world.gateways[gateway].bus
        if queue:
            queue.pop(min(at, len(queue) - 1))

    @rule(gateway=st.integers(0, 1))
    def lose_all(self, gateway: int) -> None:
        self.world.gateways[gateway].bus.clear()

    @rule(away=st.booleans())
    def redis_goes_or_comes(self, away: bool) -> None:
        self.world.redis.away = away

    @rule(away=st.booleans())
    def store_goes_or_comes(self, away: bool) -> None:
        self.world.store.away = away

    @rule(away=st.booleans())
    def kafka_goes_or_comes(self, away: bool) -> None:
        """For what workers write; what gateways write waits for Kafka by itself."""
        self.world.kafka.away = away

    # Gateways

    @rule(gateway=st.integers(0, 1), acks=st.booleans(), twice=st.booleans())
    def write(self, gateway: int, acks: bool, twice: bool) -> None:
        self.world.gateways[gateway].write(acks=acks, twice=twice)

    @rule(gateway=st.integers(0, 1), online=st.booleans())
    def bus_of_a_gateway(self, gateway: int, online: bool) -> None:
        one = self.world.gateways[gateway]
        if online:
            one.connect()
        else:
            one.disconnect()

    @rule(gateway=st.integers(0, 1))
    def crash_gateway(self, gateway: int) -> None:
        self.world.crash_gateway(self.world.gateways[gateway])

    @rule(seconds=st.sampled_from([0.3, 1.0, 3.0, 11.0, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule()
    def flow(self) -> None:
        self.world.flow()

    # Devices

    @rule(at=st.integers(0, len(DEVICES) - 1), gateway=st.integers(0, 1), hello=st.sampled_from([True, True, False]))
    def connect(self, at: int, gateway: int, hello: bool) -> None:
        self.world.connect(self.world.devices[at], self.world.gateways[gateway], hello=hello)

    @rule(at=st.integers(0, len(DEVICES) - 1))
    def disconnect(self, at: int) -> None:
        wire = self.world.devices[at].wire
        if wire is not None:
            wire.lost()

    @rule(at=st.integers(0, len(DEVICES) - 1), log=st.sampled_from(INBOX_LOGS))
    def ack(self, at: int, log: str) -> None:
        self.world.ack(self.world.devices[at], log)

    @rule(at=st.integers(0, len(DEVICES) - 1), log=st.sampled_from(INBOX_LOGS), back=places, limit=st.integers(1, 9))
    def sync(self, at: int, log: str, back: int, limit: int) -> None:
        device = self.world.devices[at]
        base = device.base.get(log, 0)
        self.world.clock.now += 0.1  # within the client's rate
        self.world.sync(device, log, max(base, device.cursor.get(log, 0) - back), limit)

    @rule(at=st.integers(0, len(DEVICES) - 1))
    def slow_down(self, at: int) -> None:
        wire = self.world.devices[at].wire
        if wire is not None:
            wire.slow = True

    @rule(at=st.integers(0, len(DEVICES) - 1))
    def read_on(self, at: int) -> None:
        wire = self.world.devices[at].wire
        if wire is not None:
            wire.read_on()

    # What must hold

    @invariant()
    def nothing_is_shown_twice_or_out_of_order(self) -> None:
        for device in self.world.devices:
            for shown in device.shown.values():
                seqs = [seq for seq, _ in shown]
                assert seqs == sorted(set(seqs))

    def teardown(self) -> None:
        world = self.world
        try:
            world.heal()
            world.settle()
            world.check()
            for user in ("ann", "cat", "bob"):
                for lane in ("normal", "bulk"):
                    world.produce(user, lane)
            world.settle(5.0)
            world.check()
        finally:
            world.close()


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
