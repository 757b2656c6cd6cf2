"""`tocsin topics` against real brokers: Kafka, and the embedded one."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cli.cluster import actual_topics, configure
from cli.kafka import Unreachable, admin
from cli.store import apply_store
from cli.topics import apply_topics, opened, plan_topics
from schemas.errors import TopicsError
from stack.servers import Kafka, Tansu
from streams.settings import Settings
from streams.topics import default_path, load_topics
from streams.topics_plan import Configure

_prefixes = itertools.count(1)
NORMAL = "notifications.normal"


@pytest.fixture(scope="module")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tansu]:
    with Tansu(tmp_path_factory.mktemp("tansu")) as server:
        yield server


@pytest.fixture(params=["kafka", "tansu"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A deployment of its own on the broker that the tests share."""
    address = request.getfixturevalue(request.param).address
    return Settings(kafka=address, prefix=f"t{next(_prefixes)}.", store=f"sqlite://{tmp_path}/tocsin.db")


@pytest.fixture
def on_kafka(kafka: Kafka, tmp_path: Path) -> Settings:
    return Settings(kafka=kafka.address, prefix=f"t{next(_prefixes)}.", store=f"sqlite://{tmp_path}/tocsin.db")


def with_file(settings: Settings, folder: Path, *, partitions: int = 4, retention: int = 604_800_000) -> Settings:
    """The same deployment under a topics.yaml that says something else."""
    document = yaml.safe_load(default_path().read_bytes())
    document["profiles"]["dev"]["partitions"] = partitions
    document["config"]["retention.ms"] = retention
    path = folder / f"topics-{partitions}-{retention}.yaml"
    path.write_text(yaml.safe_dump(document))
    return Settings(kafka=settings.kafka, prefix=settings.prefix, store=settings.store, topics=str(path))


async def incarnations(settings: Settings) -> dict[str, int]:
    async with opened(settings) as store:
        return await store.incarnations()


async def delete(settings: Settings, *names: str) -> None:
    async with admin(settings.kafka_options()) as client:
        await client.delete_topics([settings.prefix + name for name in names])
        while {settings.prefix + name for name in names} & set(await client.list_topics()):
            pass  # each question takes its time


async def test_apply_makes_what_plan_shows_and_then_nothing_is_left(settings: Settings) -> None:
    assert await plan_topics(settings, as_json=False) == 2
    assert await apply_topics(settings, as_json=False) == 0
    assert await plan_topics(settings, as_json=False) == 0
    async with admin(settings.kafka_options()) as client:
        wanted = {topic.name: topic for topic in load_topics().wanted(settings.prefix, "dev")}
        found = await actual_topics(client, wanted)
    assert found.keys() == wanted.keys()
    assert {topic.partitions for topic in found.values()} == {4}


async def test_apply_may_be_repeated(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    await apply_topics(settings, as_json=False)
    before = await incarnations(settings)
    capsys.readouterr()
    await apply_topics(settings, as_json=False)
    assert capsys.readouterr().out.startswith("nothing to do")
    assert await incarnations(settings) == before


async def test_plan_makes_nothing(settings: Settings, tmp_path: Path) -> None:
    await plan_topics(settings, as_json=True)
    async with admin(settings.kafka_options()) as client:
        assert not [name for name in await client.list_topics() if name.startswith(settings.prefix)]


async def test_topics_of_roles_start_their_first_incarnation(settings: Settings) -> None:
    await apply_topics(settings, as_json=False)
    wanted = load_topics().wanted(settings.prefix, "dev")
    assert await incarnations(settings) == {topic.name: 1 for topic in wanted if topic.source}


async def test_a_topic_that_was_deleted_starts_a_new_incarnation(settings: Settings) -> None:
    await apply_topics(settings, as_json=False)
    await delete(settings, NORMAL)
    await apply_topics(settings, as_json=False)
    noted = await incarnations(settings)
    assert noted[settings.prefix + NORMAL] == 2
    assert noted[settings.prefix + "connections"] == 1


async def test_a_topic_that_exists_is_noted_in_a_store_that_does_not_know_it(
    settings: Settings, tmp_path: Path
) -> None:
    await apply_topics(settings, as_json=False)
    other = Settings(kafka=settings.kafka, prefix=settings.prefix, store=f"sqlite://{tmp_path}/other.db")
    await apply_store(other, as_json=False)
    assert await plan_topics(other, as_json=False) == 2
    await apply_topics(other, as_json=False)
    assert await incarnations(other) == await incarnations(settings)


async def test_other_partitions_are_refused_and_nothing_is_changed(settings: Settings, tmp_path: Path) -> None:
    await apply_topics(settings, as_json=False)
    await delete(settings, "statuses")
    more = with_file(settings, tmp_path, partitions=8)
    assert await plan_topics(more, as_json=False) == 1
    with pytest.raises(TopicsError, match=r"would re-key: .*notifications\.normal \(4 -> 8 partitions\)"):
        await apply_topics(more, as_json=False)
    async with admin(settings.kafka_options()) as client:
        assert settings.prefix + "statuses" not in await client.list_topics()


async def test_a_new_value_is_set_and_what_somebody_else_set_stays(on_kafka: Settings, tmp_path: Path) -> None:
    await apply_topics(on_kafka, as_json=False)
    name = on_kafka.prefix + NORMAL
    async with admin(on_kafka.kafka_options()) as client:
        own = {key: str(s.value) for key, s in (await actual_topics(client, [name]))[name].config.items() if s.own}
        change = Configure(name, {"segment.ms": (None, "3600000")}, {**own, "segment.ms": "3600000"})
        await configure(client, change)
    longer = with_file(on_kafka, tmp_path, retention=700_000_000)
    assert await plan_topics(longer, as_json=False) == 2
    await apply_topics(longer, as_json=False)
    assert await plan_topics(longer, as_json=False) == 0
    async with admin(on_kafka.kafka_options()) as client:
        config = (await actual_topics(client, [name]))[name].config
    assert config["retention.ms"].value == "700000000"
    assert config["segment.ms"].value == "3600000"
    assert config["message.timestamp.type"].value == "LogAppendTime"


async def test_a_broker_that_cannot_change_configuration_is_said(
    tansu: Tansu, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(kafka=tansu.address, prefix=f"t{next(_prefixes)}.", store=f"sqlite://{tmp_path}/tocsin.db")
    await apply_topics(settings, as_json=False)
    await apply_topics(with_file(settings, tmp_path, retention=700_000_000), as_json=False)
    assert "this broker cannot change the configuration of a topic" in capsys.readouterr().out


async def test_a_configuration_that_kafka_refuses_is_one_line(on_kafka: Settings, tmp_path: Path) -> None:
    document = yaml.safe_load(default_path().read_bytes())
    document["config"]["no.such.config"] = 1
    path = tmp_path / "topics.yaml"
    path.write_text(yaml.safe_dump(document))
    settings = Settings(kafka=on_kafka.kafka, prefix=on_kafka.prefix, store=on_kafka.store, topics=str(path))
    with pytest.raises(TopicsError, match=r"no\.such\.config"):
        await apply_topics(settings, as_json=False)


async def test_a_number_that_was_noted_before_a_crash_is_skipped(settings: Settings) -> None:
    await apply_store(settings, as_json=False)
    async with opened(settings) as store:
        await store.put_incarnation(settings.prefix + NORMAL, 1)  # and then the process died, before it made the topic
    await apply_topics(settings, as_json=False)
    assert (await incarnations(settings))[settings.prefix + NORMAL] == 2


async def test_a_broker_that_does_not_answer_is_said(tmp_path: Path, free_port: int) -> None:
    settings = Settings(kafka=f"127.0.0.1:{free_port}", store=f"sqlite://{tmp_path}/tocsin.db")
    with pytest.raises(Unreachable, match=f"127.0.0.1:{free_port}"):
        await plan_topics(settings, as_json=False)
