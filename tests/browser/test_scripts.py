"""The client for browsers without a browser: its rules, random histories, its types, and what its README says of it."""

import gzip
import re
import subprocess
from pathlib import Path

import pytest

from tests.browsers import CLIENT, SOURCES

README = CLIENT.with_name("README.md")
SCRIPTS = sorted(SOURCES.glob("*.test.mjs"))


def run(*command: str | Path) -> None:
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-4000:]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name.removesuffix(".test.mjs"))
def test_the_scripts_hold(script: Path) -> None:
    run("node", "--test", script)


@pytest.mark.parametrize("project", ["tsconfig.json", "tsconfig.usage.json"])
def test_the_types_hold(node_folder: Path, project: str) -> None:
    run("node", node_folder / "node_modules" / "typescript" / "bin" / "tsc", "--project", SOURCES / project)


def test_the_declarations_are_those_of_the_source(node_folder: Path, tmp_path: Path) -> None:
    compiler = node_folder / "node_modules" / "typescript" / "bin" / "tsc"
    run("node", compiler, "--project", SOURCES / "tsconfig.declarations.json", "--outDir", tmp_path)
    made = (tmp_path / "tocsin.d.ts").read_text()
    assert CLIENT.with_suffix(".d.ts").read_text() == made, "make it again as clients/js/README.md says"


def test_the_readme_says_what_it_weighs_and_what_it_needs() -> None:
    text = README.read_text()
    (kilobytes,) = re.findall(r"([\d.]+) kB with gzip", text)
    assert float(kilobytes) == pytest.approx(len(gzip.compress(CLIENT.read_bytes(), 9)) / 1000, abs=0.2)
    source = CLIENT.read_text()
    assert not re.findall(r"^\s*import\b|\bimport\(|\beval\(|\bFunction\(", source, re.MULTILINE)
    for key in re.findall(r"[\"`](tocsin:\w+)", source):
        assert f"`{key}" in text, key


def test_the_readme_explains_every_event_and_state() -> None:
    text = README.read_text()
    source = CLIENT.read_text()
    (events,) = re.findall(r"@typedef \{\{(notification:.*?)\}\} Events", source, re.DOTALL)
    (states,) = re.findall(r"@typedef \{(\"idle\".*?)\} State\n", source)
    for name in [*re.findall(r"(\w+): (?:Entry|\w*Change|Seqs|Trouble|\{)", events), *re.findall(r'"(\w+)"', states)]:
        assert re.search(rf"^\| `{name}`", text, re.MULTILINE), name
