from pathlib import Path

import pytest

from stack.logs import Tail, error_in, last_error, last_lines, set_aside

TRACEBACK = """\
starting
Traceback (most recent call last):
  File "worker.py", line 3, in <module>
    run()
ValueError: no such role
"""

JAVA = """\
2026-11-22 17:21:33 WARN  Something is odd
2026-11-22 17:21:34 ERROR KafkaServer Exiting because a port is in use
java.net.BindException: Address already in use
\tat java.base/sun.nio.ch.Net.bind0(Native Method)
\t... 12 more
bye
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TRACEBACK, "ValueError: no such role"),
        (JAVA, "java.net.BindException: Address already in use"),
        ("\x1b[31mFATAL\x1b[0m: nothing works\n", "FATAL: nothing works"),
        ("first\nlast\n\n", "last"),
        ("", ""),
        ("x" * 1000, "x" * 300),
    ],
)
def test_the_line_that_says_why_is_found(text: str, line: str) -> None:
    assert error_in(text) == line


def test_a_log_that_does_not_exist_says_nothing(tmp_path: Path) -> None:
    assert last_error(tmp_path / "none.log") == ""


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("an early error\n" + "all is well\n" * 10_000)
    assert last_error(log) == "all is well"


def test_the_last_words_of_a_log_have_no_colours_and_no_endless_lines(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert last_lines(log, 3) == []
    log.write_text("one\n\n\x1b[31mtwo\x1b[0m\n" + "x" * 1000 + "\n")
    assert last_lines(log, 2) == ["two", "x" * 300]


def test_a_tail_shows_each_line_once_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    tail = Tail(log)
    assert tail.lines() == []
    log.write_text("one\ntw")
    assert tail.lines() == ["one"]
    with log.open("a") as file:
        file.write("o\nthree\n")
    assert tail.lines() == ["two", "three"]
    assert tail.lines() == []


def test_the_log_of_the_run_before_is_kept_once(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    set_aside(log)
    for text in ("first", "second"):
        log.write_text(text)
        set_aside(log)
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "second"
