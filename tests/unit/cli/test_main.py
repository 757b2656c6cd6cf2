"""The command line as a shell sees it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import shell

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


def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    ended = tocsin("docs", str(tmp_path / "file" / "below"), cwd=_with_file(tmp_path))
    assert (ended.returncode, ended.stderr) == (1, f"tocsin: {tmp_path}/file/below/schemas/records: Not a directory\n")


def test_what_nobody_foresaw_is_one_line_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    def fails(prog_name: str) -> None:
        raise KeyError(prog_name)

    with pytest.raises(SystemExit, match="1"):
        shell.main(fails)
    said = capsys.readouterr().err
    assert said == (
        "tocsin: a fault of Tocsin itself; please report it with what `tocsin --debug ...` shows: KeyError('tocsin')\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("token", "u", "--ttl", "inf"),
        ("token", "u", "--ttl", "1e20"),
        ("send", "u", "x", "--expires-in", "nan"),
        ("send", "u", "x", "--expires-in", "1e20"),
        ("send", "u", "x", "--rate", "inf"),
        ("lag", "--watch", "nan"),
        ("dlq", "redrive", "--rate", "inf"),
        ("send", "u", "\udcff"),
        ("send", "\udcff", "x"),
        ("listen", "u", "--token", "\udc80"),
    ],
)
def test_an_argument_that_makes_no_sense_is_wrong_usage(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = tocsin(*arguments, cwd=tmp_path, TOCSIN_SECRET="s" * 32)
    assert ended.returncode == 2
    assert "Error" not in ended.stderr.replace("Error: Invalid value", "")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("url", ["ws://127.0.0.1:99999", "ws://[::1", "http://", "ws://:80"])
def test_a_url_that_cannot_be_one_is_said(url: str, tmp_path: Path) -> None:
    ended = tocsin("listen", "u", cwd=tmp_path, TOCSIN_SECRET="s" * 32, TOCSIN_URL=url)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith(f"tocsin: TOCSIN_URL: {url} is not the URL of a gateway")


def test_whoever_stops_reading_ends_the_command_quietly(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        ended = subprocess.run(
            [sys.executable, "-m", "cli", "config"], check=False, stdout=nobody, stderr=subprocess.PIPE, text=True,
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "")


def _with_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder


def test_a_record_that_would_be_refused_is_said_before_kafka_is_asked(tmp_path: Path) -> None:
    ended = tocsin("send", "u", "", cwd=tmp_path, TOCSIN_KAFKA="127.0.0.1:1")
    assert ended.returncode == 1
    assert ended.stderr == "tocsin: one of `title`, `body` and `data` is needed\n"


def test_an_option_that_is_wrong_is_said_before_kafka_is_asked(tmp_path: Path) -> None:
    ended = tocsin("send", "u", "x", "--data", "[1]", cwd=tmp_path, TOCSIN_KAFKA="127.0.0.1:1")
    assert ended.returncode == 2
    assert ended.stderr == "tocsin: --data: this is not a JSON object\n"


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
