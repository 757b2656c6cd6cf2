"""Short stories of what goes wrong, each told up to the moment from which everything has to come right by itself."""

from collections.abc import Callable

from gateway.bucket import Limits
from tests.unit.delivery.servers import TP
from tests.unit.delivery.worker import Worker
from tests.unit.delivery.world import World

Story = Callable[[World], None]
NORMAL = TP("notifications.normal", 0)  # where the records of ann and bob lie


def begun() -> World:
    """A world in which everybody is connected and has nothing to do."""
    world = World(pace=Limits(rate=2.0, burst=3.0))
    world.take_over()
    for device in world.devices:
        world.connect(device, world.gateways[0])
    world.settle()
    for _ in range(3):
        world.flow()
        world.pass_time(1.0)
    return world


def happens(world: World, condition: Callable[[], object]) -> None:
    """Step the batch of the first worker until the condition holds."""
    happens_to(world.workers[0], condition)


def happens_to(worker: Worker, condition: Callable[[], object]) -> None:
    """Step a worker's batch until the condition holds."""
    for _ in range(100):
        if condition():
            return
        worker.step()
    raise AssertionError("it did not happen")


def crash_after_the_take(world: World) -> None:
    world.produce("ann")
    world.workers[0].take(NORMAL.topic, 10)
    world.workers[0].step()
    world.workers[0].commit()
    world.take_over("crash")


def store_away_for_an_append(world: World) -> None:
    """A worker takes a record while the store is away, and tries again until it is back."""
    world.produce("ann")
    world.flow()
    world.produce("ann")
    world.store.away = True
    world.flow()
    world.store.away = False


def partitions_come_back(world: World) -> None:
    """A worker loses its partitions, another one appends, and then the first has them again."""
    world.produce("ann")
    world.flow()
    world.take_over("zombie")
    for _ in range(3):
        world.produce("ann")
    world.flow()
    world.take_over(by=world.zombies.pop())
    world.produce("ann")


def frozen_worker_says_what_kafka_lost(world: World) -> None:
    """A record that only a frozen worker has seen is lost with its broker, and another one takes its seq."""
    world.produce("ann", title="ghost000")
    worker = world.workers[0]
    worker.take(NORMAL.topic, 10)
    worker.step(2)
    world.kafka.logs[NORMAL].clear()
    world.take_over("zombie")
    world.flow()  # the gateways hear of the new owner
    world.produce("ann")
    world.workers[0].work()
    zombie = world.zombies.pop()
    while zombie.job is not None:
        zombie.step()
    bus = world.gateways[0].bus
    assert len(bus) == 2
    bus.reverse()  # the publishes of two workers may overtake each other


def frozen_worker_appends_what_its_successor_then_finds_done(world: World) -> None:
    """The frozen worker's messages are fenced, so the successor has to tell the devices of entries that are not its."""
    world.take_over("zombie")
    world.settle()
    world.produce("ann")
    world.zombies.pop().work()


def two_frozen_workers_append_what_their_successor_acked(world: World) -> None:
    """The second one's append is the shorter one and of a higher epoch: it comes when all has been committed."""
    for _ in range(3):
        world.produce("ann")
    for records in (3, 1):
        world.workers[0].take(NORMAL.topic, records)
        world.workers[0].step(3)  # it has read the head, and is about to append
        world.take_over("zombie")
    first, second = world.zombies
    first.work()
    world.settle()  # the successor knows all three, and commits
    assert world.kafka.committed[NORMAL] == 3
    happens_to(second, lambda: second.job is None)
    world.zombies.clear()


def frozen_worker_answers_a_device_that_is_ahead_of_it(world: World) -> None:
    """A gateway that has just started knows no epochs yet, so it takes the first answer that it gets."""
    world.produce("ann")
    world.flow()  # the worker knows one entry
    world.take_over("zombie")
    world.settle()
    world.produce("ann")
    world.settle()  # the devices have two
    world.crash_gateway(world.gateways[0])
    world.connect(world.devices[0], world.gateways[0])
    world.gateways[0].write()
    zombie = world.zombies[0]
    zombie.take("connections", 100)
    while zombie.job is not None or zombie.beside:
        zombie.step()
        zombie.step_beside(0)
    while world.gateways[0].bus:
        world.gateways[0].arrive()


def last_message_before_silence_is_lost(world: World) -> None:
    world.produce("ann")
    world.workers[0].work()
    world.gateways[0].bus.clear()


def message_in_the_middle_is_lost(world: World) -> None:
    for user in ("ann", "bob"):  # bob's message follows, and nothing more for ann
        world.produce(user)
        world.workers[0].work()
    world.gateways[0].bus.pop(0)


def same_record_again(world: World) -> None:
    world.produce("ann", id="a", title="same0000")
    world.flow()
    world.produce("ann", id="a", title="same0000")


def misplaced_record_again(world: World) -> None:
    """The worker crashes after it has sent a misplaced record on, and its successor sends it on again."""
    world.produce("ann", partition=1)
    worker = world.workers[0]
    worker.take(NORMAL.topic, 10)
    happens(world, lambda: world.kafka.logs[NORMAL])
    world.take_over("crash")


def openings_lost_while_redis_was_away(world: World) -> None:
    """Devices that came long ago have not been welcomed yet; that must not last until their next patient question."""
    world.redis.away = True
    for device in world.devices:
        world.connect(device, world.gateways[0])
    for seconds in (6.0, 11.0, 21.0):
        world.flow()
        world.pass_time(seconds)
    world.flow()
    world.produce("ann")


def gateway_was_taken_for_dead(world: World) -> None:
    """A gateway loses Redis for so long that workers forget it; meanwhile one of its users connects elsewhere."""
    phone, web = world.devices[:2]
    assert web.wire is not None
    web.wire.lost()
    world.flow()
    world.beat(world.workers[0])
    world.flow()
    world.gateways[0].disconnect()
    world.produce("ann")
    for _ in range(23):
        world.flow()
        world.beat(world.workers[0])
        world.pass_time(1.0)
    assert world.workers[0].publisher.dead == {"g0"}
    world.connect(web, world.gateways[1])
    world.flow()
    assert phone.wire is not None
    world.gateways[0].connect()
    for _ in range(3):
        world.flow()
        world.pass_time(1.0)
    world.produce("ann")


def statuses_cannot_be_written_while_entries_are_merged(world: World) -> None:
    """Kafka takes nothing while two entries of one key are published together; the batch is done again later."""
    for _ in range(2):
        world.produce("ann", "bulk", collapse_key="k")
    world.kafka.away = True
    world.flow()
    world.kafka.away = False


def more_than_a_session_is_sent_at_once(world: World) -> None:
    """The session is held back, and nothing comes after that would remind it."""
    for _ in range(7):
        world.produce("ann", "bulk")
    world.flow()
