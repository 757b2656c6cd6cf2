import logging
from collections.abc import Iterator

import pytest

from telemetry.logs import QUIET, setup_logging


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield
    root.handlers[:], root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def test_a_record_is_one_line_that_names_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "gateway")
    logging.getLogger("some.part").info("two\nlines of %s", "text")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"Z INFO gateway some.part: two\nlines of text")


def test_libraries_are_heard_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("debug", "gateway")
    logging.getLogger("aiokafka.consumer").info("chatter")
    for _ in range(3):
        logging.getLogger("aiokafka.consumer").warning("%s", "trouble")
    assert [line.rpartition(" ")[2] for line in capsys.readouterr().err.splitlines()] == ["trouble"]
