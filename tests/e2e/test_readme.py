"""What the documents tell people to type: the commands of `console` blocks, and the README's two clients, are run."""

import json
import re
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.browsers import EMPTY, Chromium, Site, tokens_from
from tests.system import System, environment
from tests.terminal import Listener

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
UP = ["tocsin", "up", "--stack", "embedded"]  # the fixture runs this


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def commands(document: Path) -> list[list[str]]:
    lines = [line for block in blocks(document, "console") for line in block.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:], comments=True) for line in lines]


WITH_COMMANDS = [document for document in DOCUMENTS if commands(document)]


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
        elif words != UP:
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
def test_the_commands_do_what_the_document_says(embedded_system: System, document: Path) -> None:
    with ExitStack() as shells:
        reader = Reader(embedded_system, shells)
        for words in commands(document):
            reader.type(words)
        for listener, user, ids in reader.listeners:
            shown = [entry["id"] for entry in listener.wait(len(ids))]
            assert sorted(shown) == sorted(ids), user


def test_the_documents_with_commands_are_those_for_beginners_and_operators() -> None:
    assert [document.name for document in WITH_COMMANDS] == ["README.md", "operations.md"]


def test_the_producer_of_the_readme_reaches_a_device(embedded_system: System) -> None:
    (program,) = blocks(ROOT / "README.md", "python")
    with Listener(embedded_system, "u1", "--device", "python") as listener:
        listener.connected()
        ended = subprocess.run(
            [sys.executable, "-c", program.replace("127.0.0.1:9092", embedded_system.kafka)],
            check=False, capture_output=True, text=True, timeout=60, env=environment(),
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        ids = [entry["id"] for entry in listener.wait(1)]
    assert "order-42-paid" in ids


def test_the_browser_of_the_readme_shows_each_entry_once_and_acknowledges(
    embedded_system: System, chromium: Chromium, site: Site
) -> None:
    (script,) = blocks(ROOT / "README.md", "js")
    shell = (
        "<script>const shown = [], badges = [], show = ({id}) => shown.push(id), badge = (n) => badges.push(n)</script>"
    )
    module = script.replace("ws://127.0.0.1:8080/ws", embedded_system.url)
    site.pages["/readme"] = f'{EMPTY}{shell}<script type="module">{module}</script>'

    def sent(batch: str) -> list[str]:
        ended = embedded_system.tocsin("send", "u-readme", "hello", "--count", "2", "--key", batch)
        assert ended.returncode == 0, ended.stderr
        return [f"{batch}-1", f"{batch}-2"]

    with tokens_from(site, embedded_system, "u-readme"):
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
