"""What the documents tell people to type is run as it is printed, on the deployment that they tell people to start.

Commands of `console` blocks, the README's programs and the tools that it names. Where one of its ports is taken on this
machine, another one takes its place in the text; nothing else does.
"""

import json
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from stack.ports import is_free
from stack.servers import Kafka
from tests.browsers import EMPTY, Chromium, Site, tokens_from
from tests.system import System, environment, start, stop
from tests.terminal import Listener

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCUMENTS = [README, *sorted(ROOT.glob("docs/*.md"))]
KAFKA, GATEWAY = "127.0.0.1:9092", "127.0.0.1:8080"  # where the README has them


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def commands(document: Path) -> list[list[str]]:
    lines = [line for block in blocks(document, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:], comments=True) for line in lines]


WITH_COMMANDS = [document for document in DOCUMENTS if commands(document)]


@contextmanager
def started(folder: Path, words: list[str]) -> Iterator[System]:
    """The deployment of a line `tocsin up …`, typed in a folder, on its own ports where these are free."""
    assert words[:2] == ["tocsin", "up"]
    other = [] if is_free(8080) else ["--port", "0"]
    running = start(folder, *words[2:], *other, ports=(), data=False)
    try:
        yield running
    finally:
        assert stop(running.process) == 0, (folder / "up.log").read_text()


def here(text: str, system: System) -> str:
    """What the README prints, with the addresses of this run: they differ where somebody has a port of its own."""
    return text.replace(KAFKA, system.kafka).replace(f"ws://{GATEWAY}", str(system.ready["gateway"]))


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    (up,) = (words for words in commands(README) if words[1] == "up")
    with started(tmp_path_factory.mktemp("readme"), up) as running:
        yield running


class Reader:
    """Somebody who types the commands of a document, one after the other, each `listen` in a shell of its own."""

    def __init__(self, system: System, shells: ExitStack) -> None:
        self._system = system
        self._shells = shells
        self.listeners: list[tuple[Listener, str, set[str]]] = []  # with the ids that it has to show

    def type(self, words: list[str]) -> None:
        assert words[0] == "tocsin", words
        if words[1] == "listen":
            self._listen(words[2], *words[3:])
        elif words[1] != "up":
            ended = self._system.tocsin(*words[1:])
            assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
            if words[1] == "send":
                self._sent(words[2], ended.stdout)

    def _listen(self, user: str, *options: str) -> None:
        listener = self._shells.enter_context(Listener(self._system, user, *options))
        listener.connected()
        self.listeners.append((listener, user, set()))

    def _sent(self, user: str, output: str) -> None:
        for line in output.splitlines():
            id_ = json.loads(line)["id"] if line.startswith("{") else line.split()[1]
            for _, listening, ids in self.listeners:
                if listening == user:
                    ids.add(id_)


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.stem)
def test_the_commands_do_what_the_document_says(document: Path, tmp_path: Path) -> None:
    (up,) = (words for words in commands(document) if words[1] == "up")
    with started(tmp_path, up) as system, ExitStack() as shells:
        reader = Reader(system, shells)
        for words in commands(document):
            reader.type(words)
        for listener, user, ids in reader.listeners:
            shown = [entry["id"] for entry in listener.wait(len(ids))]
            assert sorted(shown) == sorted(ids), user


def test_the_documents_with_commands_are_those_for_beginners_and_operators() -> None:
    assert [document.name for document in WITH_COMMANDS] == ["README.md", "operations.md"]


def test_up_says_where_the_readme_expects_everything(readme: System) -> None:
    printed = (readme.folder / "up.log").read_text()
    assert f"kafka        ready on {readme.kafka} (embedded, " in printed
    assert f"secret   {readme.folder}/.tocsin/secret" in printed
    if readme.kafka != KAFKA:
        assert "port 9092 is taken" in printed


def run(system: System, *command: str) -> str:
    """Run what the README prints in the folder where `up` runs, and return what it says."""
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60,
        cwd=system.folder, env=environment(),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def program(language: str, about: str) -> str:
    (found,) = (block for block in blocks(README, language) if about in block)
    return found


def test_the_producer_of_the_readme_reaches_a_device(readme: System) -> None:
    with Listener(readme, "u1", "--device", "python") as listener:
        listener.connected()
        run(readme, sys.executable, "-c", here(program("python", "confluent_kafka"), readme))
        listener.wait_for(lambda entry: entry["id"] == "order-42-paid" and entry["data"] == {"order": 42})


def test_kcat_of_the_readme_reaches_a_device(tmp_path: Path) -> None:
    (typed,) = re.findall(r"With `kcat` .*`(tocsin up .*?)`", README.read_text())
    with started(tmp_path, shlex.split(typed)) as system, Listener(system, "u1") as listener:
        listener.connected()
        run(system, "bash", "-euo", "pipefail", "-c", here(program("sh", "kcat"), system))
        assert [entry["title"] for entry in listener.wait(1)] == ["Paid"]
        with urllib.request.urlopen(system.ready["metrics"]["worker-inbox"], timeout=10) as page:
            moved = re.findall(r"^tocsin_records_moved_total\S* (\S+)$", page.read().decode(), re.MULTILINE)
    assert sum(map(float, moved)) == 0  # its partitioner is the one that the README names


@pytest.mark.parametrize(
    ("language", "about", "interpreter"),
    [("python", "jwt.encode", (sys.executable, "-c")), ("javascript", "createHmac", ("node", "-e"))],
    ids=["python", "node"],
)
def test_three_lines_of_the_readme_sign_a_token(
    readme: System, language: str, about: str, interpreter: tuple[str, str]
) -> None:
    lines = program(language, about)
    assert len(list(filter(None, lines.splitlines()))) == 3
    token = run(readme, *interpreter, lines).strip()
    with Listener(readme, "u1", "--token", token) as listener:
        listener.connected()


def test_a_kafka_of_ones_own_is_one_command(kafka: Kafka, tmp_path: Path) -> None:
    (typed,) = re.findall(r"`(tocsin up --kafka \S+:\d+)`", README.read_text())
    words = shlex.split(typed.replace(KAFKA, kafka.address))
    with started(tmp_path, words) as system, Listener(system, "own-1") as listener:
        assert system.kafka == kafka.address
        listener.connected()
        assert system.tocsin("send", "own-1", "through a Kafka that was there").returncode == 0
        listener.wait(1)
        assert system.tocsin("send", "own-2", "through a Kafka that was there").returncode == 0
    with started(tmp_path, words) as system, Listener(system, "own-2") as listener:
        assert [entry["body"] for entry in listener.wait(1)] == ["through a Kafka that was there"]  # it lasts


def test_the_browser_of_the_readme_shows_each_entry_once_and_acknowledges(
    readme: System, chromium: Chromium, site: Site
) -> None:
    (script,) = blocks(README, "js")
    shell = (
        "<script>const shown = [], badges = [], show = ({id}) => shown.push(id), badge = (n) => badges.push(n)</script>"
    )
    site.pages["/readme"] = f'{EMPTY}{shell}<script type="module">{here(script, readme)}</script>'

    def sent(batch: str) -> list[str]:
        ended = readme.tocsin("send", "u-readme", "hello", "--count", "2", "--key", batch)
        assert ended.returncode == 0, ended.stderr
        return [f"{batch}-1", f"{batch}-2"]

    with tokens_from(site, readme, "u-readme"):
        tab = chromium.tab(chromium.profile(), "/readme")
        tab.wait("badges.length > 0")
        first = sent("a")
        assert tab.shown(2) == first
        tab.wait("badges.at(-1) === 2")
        tab.reload()
        assert sorted(tab.shown(2)) == first, "from history"
        second = sent("b")
        assert sorted(tab.shown(4)) == first + second
        assert tab.problems() == []
