import logging
from collections.abc import Iterator

import pytest

from schemas.errors import TopicsError
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


def test_an_error_that_says_what_to_do_has_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "gateway")
    for error in (TopicsError("run `tocsin topics apply`"), ValueError("ours")):
        try:
            raise error
        except (TopicsError, ValueError):
            logging.getLogger("some.part").exception("it failed")
    logging.getLogger("some.part").error("it failed", exc_info=(None, None, None))
    text = capsys.readouterr().err
    assert text.count("Traceback") == 1
    assert "NoneType" not in text
