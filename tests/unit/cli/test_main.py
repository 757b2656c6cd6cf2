"""The command line as a shell sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMANDS = [
    ("up",), ("worker",), ("gateway",), ("topics", "plan"), ("topics", "apply"), ("store", "plan"), ("store", "apply"),
    ("send",), ("listen",), ("token",), ("config",), ("demo",), ("docs",), ("version",),
]  # fmt: skip


def tocsin(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TOCSIN_")}
    return subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(ROOT), **variables},
    )


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_every_command_has_help_with_an_example(command: tuple[str, ...]) -> None:
    ended = tocsin(*command, "--help")
    assert ended.returncode == 0
    assert "Example: " in ended.stdout
    assert f"tocsin {' '.join(command)}" in ended.stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, cli.main; print(sorted(m for m in ('faust', 'aiokafka', 'cassandra', 'rich') if m in sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert loaded.stdout == "[]\n"


def test_a_wrong_setting_is_one_line_and_code_2() -> None:
    ended = tocsin("config", TOCSIN_PORT="x")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("tocsin: TOCSIN_PORT: ")
    assert ended.stderr.count("\n") == 1


def test_an_unknown_command_is_code_2() -> None:
    ended = tocsin("nope")
    assert ended.returncode == 2
    assert "nope" in ended.stderr


@pytest.mark.parametrize("command", [("send", "u", "x"), ("topics", "plan"), ("topics", "apply")], ids="-".join)
def test_a_kafka_that_does_not_answer_is_one_line_that_says_what_to_do(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    ended = tocsin(*command, cwd=tmp_path, TOCSIN_KAFKA="127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr == (
        "tocsin: Kafka does not answer at 127.0.0.1:1 (TOCSIN_KAFKA); is it running? "
        "`tocsin up --stack embedded` starts one\n"
    )


def test_a_gateway_that_does_not_answer_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    ended = tocsin("listen", "u", cwd=tmp_path, TOCSIN_URL="ws://127.0.0.1:1", TOCSIN_SECRET="s" * 32)
    assert ended.returncode == 1
    assert ended.stderr.startswith("tocsin: no gateway answers at ws://127.0.0.1:1/ws (TOCSIN_URL)")
    assert ended.stderr.count("\n") == 1


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    ended = tocsin("--debug", "token", "u", cwd=tmp_path)
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("tocsin: TOCSIN_SECRET is not set")


def test_what_nobody_foresaw_is_one_line_with_a_hint(tmp_path: Path) -> None:
    ended = tocsin("docs", str(tmp_path / "file" / "below"), cwd=_with_file(tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "`tocsin --debug ...` shows where" in ended.stderr


def _with_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder


def test_a_record_that_would_be_refused_is_said_before_kafka_is_asked(tmp_path: Path) -> None:
    ended = tocsin("send", "u", "x", "--data", "[1]", cwd=tmp_path, TOCSIN_KAFKA="127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr == "tocsin: Expected `object | null` - at `$.data`\n"


def test_a_token_can_be_made_without_any_server(tmp_path: Path) -> None:
    ended = tocsin("token", "u", "--device", "d", cwd=tmp_path, TOCSIN_SECRET="s" * 32)
    assert ended.returncode == 0
    assert ended.stdout.count(".") == 2


def test_ctrl_c_ends_it_quietly_with_130(tmp_path: Path) -> None:
    code = (
        "import cli.main, os, signal; cli.shell.settings = lambda: os.kill(os.getpid(), signal.SIGINT); cli.main.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "config"], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (ended.returncode, ended.stderr) == (130, "")
