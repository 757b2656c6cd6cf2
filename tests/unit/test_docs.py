"""The documents name what the code has, where it belongs, and their links and commands are real."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import typer.main
from prometheus_client import CollectorRegistry

from bench.__main__ import BENCHES, CHECKS
from cli.docs import COMMANDS, HEADERS
from cli.main import app
from gateway import codes
from schemas import frames, records
from schemas.logs import INBOX_LOGS
from streams.settings import Settings, descriptions
from streams.topics import load_topics
from telemetry.gateway import GatewayMetrics
from telemetry.worker import WorkerMetrics

ROOT = Path(__file__).parents[2]
BESIDE = [ROOT / "deploy" / "README.md", ROOT / "clients" / "js" / "README.md"]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md")), *BESIDE]
PROTOCOL, OPERATIONS, ARCHITECTURE = ("protocol.md", "operations.md", "architecture.md")


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def section(name: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one of the same or a higher level."""
    text = text_of(name)
    found = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert found, f"{name} has no heading {heading!r}"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> dict[str, str]:
    """Return table rows by their first cell; a first cell may name several, each in backticks."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("| "):
            first = line.replace(r"\|", "/").split("|")[1].strip()
            for name in re.findall(r"`([^`]+)`", first) or [first]:
                found[name] = line
    return found


def anchors(text: str) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def links(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text())):
        if not target.startswith("https://"):
            yield target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in links(document):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


def test_every_document_is_on_the_map() -> None:
    mapped = {target.partition("#")[0] for target in links(ROOT / "docs" / "README.md")}
    assert {path.name for path in (ROOT / "docs").iterdir() if path.is_file()} <= mapped | {"README.md"}


def test_the_readme_is_read_in_one_go() -> None:
    assert 100 <= len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_setting_is_described_as_the_code_has_it() -> None:
    described = rows(section(PROTOCOL, "Settings"))
    for name, default in msgspec.structs.asdict(Settings()).items():
        shown = str(default).lower() if isinstance(default, bool) else ("" if default in ("", None) else str(default))
        row = f"| `TOCSIN_{name.upper()}` | {f'`{shown}`' if shown else ''} | {descriptions()[name]} |"
        assert described.pop(f"TOCSIN_{name.upper()}") == row
    assert set(described) == {"setting"}


@pytest.mark.parametrize(
    ("heading", "metrics"), [("Worker", WorkerMetrics), ("Gateway", GatewayMetrics)], ids=["worker", "gateway"]
)
def test_every_metric_is_in_its_table_with_kind_and_labels(heading: str, metrics: Any) -> None:
    registry = CollectorRegistry()
    counted = metrics(registry)
    listed = {name: row for name, row in rows(section(OPERATIONS, heading)).items() if name.startswith("tocsin_")}
    families = {f"{f.name}_total" if f.type == "counter" else f.name: f for f in registry.collect()}
    assert set(listed) == set(families)
    labels = dict(_labels(counted))
    for name, family in families.items():
        kind, named = (cell.strip() for cell in listed[name].split("|")[2:4])
        assert kind.startswith(family.type), name
        assert named == "".join(f"`{label}`" for label in labels[name]), name


def _labels(metrics: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    for metric in vars(metrics).values():
        (family,) = metric.collect()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, getattr(metric, "_labelnames", None) or tuple(filter(None, [getattr(metric, "_label", "")]))


def test_every_close_code_is_in_the_table_under_its_name() -> None:
    listed = {name: row for name, row in rows(section(PROTOCOL, "Close codes")).items() if name.isdecimal()}
    assert listed.keys() == {str(code) for code in codes.REASONS}
    for code, reason in codes.REASONS.items():
        assert listed[str(code)].startswith(f"| {code} | {reason} |")


def test_every_error_code_is_explained_or_reserved() -> None:
    text = section(PROTOCOL, "Error codes")
    assert set(frames.ERROR_CODES) <= set(re.findall(r"`(\w+)`", text))


def test_every_reason_and_header_of_dead_letters_is_explained() -> None:
    listed = rows(section(PROTOCOL, "Dead letters"))
    assert listed.keys() - {"header", "tocsin-reason"} == (records.REASONS.keys() | HEADERS.keys()) - {"tocsin-reason"}


@pytest.mark.parametrize(
    ("heading", "types"),
    [("What a client says", get_args(frames.ClientFrame)), ("What the server says", get_args(frames.ServerFrame))],
    ids=["client", "server"],
)
def test_every_frame_is_listed_with_its_fields_and_has_an_example(heading: str, types: tuple[Any, ...]) -> None:
    text = section(PROTOCOL, heading)
    listed = rows(text)
    for type_ in types:
        config = type_.__struct_config__
        row = listed[str(config.tag)]
        for field in msgspec.structs.fields(type_):
            assert field.encode_name == "id" or f"`{field.encode_name}`" in row, (config.tag, field.encode_name)
        assert f'{{"type": "{config.tag}"' in text
    assert listed.keys() - {"type"} <= {str(type_.__struct_config__.tag) for type_ in types} | {"type"}


def test_the_examples_of_frames_are_frames() -> None:
    for heading, union in (("What a client says", frames.ClientFrame), ("What the server says", frames.ServerFrame)):
        for line in re.findall(r"^\{.*\}$", section(PROTOCOL, heading), re.MULTILINE):
            msgspec.json.decode(line.encode(), type=union)


def test_the_examples_of_records_are_records() -> None:
    examples = re.findall(r"```json\n(.*?)```", section(PROTOCOL, "Kafka"), re.DOTALL)
    value, status, revocation = (example.encode() for example in examples)
    assert records.decode_notification(b"u1", value).id == "order-42-paid"
    assert msgspec.json.decode(status, type=records.Status).state == "expired"
    assert records.decode_revocation(revocation).user == "u1"


def test_every_field_of_a_notification_is_explained() -> None:
    assert set(records.Notification.__struct_fields__) <= rows(section(PROTOCOL, "Notifications")).keys()


def test_every_topic_and_log_is_listed() -> None:
    listed = rows(section(PROTOCOL, "Topics"))
    topics = load_topics().topics
    assert topics.keys() <= listed.keys()
    assert all(str(topic.number) in listed[name].split("|")[-2] for name, topic in topics.items())
    assert rows(section(PROTOCOL, "Logs")).keys() >= set(INBOX_LOGS)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield (words, command) for every command of `tocsin`."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())
        else:
            yield name, command


def test_every_command_is_listed_with_its_options() -> None:
    listed = {name: row for name, row in rows(section(PROTOCOL, "Commands")).items() if name.startswith("tocsin ")}
    for words, command in commands():
        name, _, inner = words.partition(" ")
        row = next(row for text, row in listed.items() if text.split()[1] == name and inner in row)
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        for option in options:
            assert option in row or option in ("--help", "--api-port"), (words, option)


def test_the_json_of_every_command_has_a_schema_and_is_explained() -> None:
    printing = {words for words, command in commands() if any("--json" in p.opts for p in command.params)}
    assert printing == set(COMMANDS)
    explained = {name for name in rows(section(PROTOCOL, "Commands")) if not name.startswith(("tocsin ", "make "))}
    assert printing <= explained


def test_the_commands_of_shell_blocks_would_run() -> None:
    known = dict(commands())
    for document in DOCUMENTS:
        for block in re.findall(r"```(?:sh|console)\n(.*?)```", document.read_text(), re.DOTALL):
            for line in block.splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words[:1] == ["tocsin"]:
                    _parse(known, words[1:])


def _parse(known: dict[str, Any], words: list[str]) -> None:
    name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
    known[name].make_context(name, words[len(name.split()) :])  # raises UsageError for what would not run


def test_every_dependency_has_its_reason_and_every_room_its_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = {re.split(r"[<>=\[]", one)[0] for one in project["project"]["dependencies"]}
    assert rows(section(ARCHITECTURE, "Dependencies")).keys() - {"package"} == names
    rooms = {name for name in project["tool"]["setuptools"]["packages"] if "." not in name}
    assert rooms <= rows(section(ARCHITECTURE, "Rooms")).keys()
    assert {f"{room}/" for room in rooms} <= rows((ROOT / "README.md").read_text()).keys()


def test_every_benchmark_is_explained() -> None:
    explained = rows(section("performance.md", "How it is measured")).keys() - {"benchmark"}
    assert BENCHES.keys() | CHECKS.keys() == explained


def test_every_module_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        for path in re.findall(r"`(\w+(?:/\w+)+\.py)`", document.read_text()):
            assert (ROOT / path).exists(), (document.name, path)
