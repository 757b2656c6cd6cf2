"""Mixtures of embedded, real and own servers, with all of our own processes."""

from pathlib import Path

from stack.servers import Cassandra, Tansu
from tests.system import start, stop
from tests.terminal import Listener


def test_a_store_that_lasts_goes_on_with_an_embedded_kafka_that_does_not(cassandra: Cassandra, tmp_path: Path) -> None:
    """Each start brings a Kafka that counts from 0 again; what the store has must not be taken for what it brings."""
    stores = {"cassandra": cassandra.url, "sqlite": f"sqlite:///{tmp_path}/lasting/tocsin.db"}
    for name, store in stores.items():
        folder = tmp_path / name
        folder.mkdir()
        for run in (1, 2, 3):
            system = start(folder, "--kafka", "embedded", "--redis", "embedded", "--store", store)
            try:
                sent = system.tocsin("send", f"{name}-1", "hello", "--count", "3", "--key", f"run-{run}")
                assert sent.returncode == 0, sent.stderr
                with Listener(system, f"{name}-1", "--device", f"new-{run}") as listener:
                    shown = listener.wait(3 * run)
                expected = [(f"run-{each}-{number}") for each in range(1, run + 1) for number in (1, 2, 3)]
                assert [entry["id"] for entry in shown] == expected
                assert [entry["seq"] for entry in shown] == list(range(1, 3 * run + 1))
            finally:
                assert stop(system.process) == 0, (folder / "up.log").read_text()


def test_an_embedded_kafka_of_somebody_else_is_a_kafka_like_any_other(tmp_path: Path) -> None:
    with Tansu(tmp_path / "tansu") as tansu:
        for run in (1, 2):
            system = start(tmp_path, "--kafka", tansu.address)
            try:
                sent = system.tocsin("send", "own-1", "hello", "--key", f"run-{run}")
                assert sent.returncode == 0, sent.stderr
                with Listener(system, "own-1", "--device", f"new-{run}") as listener:
                    assert [entry["id"] for entry in listener.wait(run)] == ["run-1", "run-2"][:run]
            finally:
                assert stop(system.process) == 0
