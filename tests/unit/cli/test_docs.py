"""The documents that are made from the types."""

from pathlib import Path

import yaml

from cli.docs import RECORDS, asyncapi, documents, write_documents
from streams.topics import load_topics

DOCS = Path(__file__).parents[3] / "docs"


def test_the_documents_are_those_of_the_types() -> None:
    stale = [name for name, text in documents().items() if not _is(DOCS / name, text)]
    assert not stale, "run `tocsin docs`"


def test_no_schema_is_left_of_a_type_that_is_gone() -> None:
    files = {path.relative_to(DOCS).as_posix() for path in (DOCS / "schemas").rglob("*.json")}
    assert files <= documents().keys()


def test_every_topic_is_described() -> None:
    assert RECORDS.keys() == load_topics().topics.keys()


def test_writing_twice_changes_nothing_and_removes_what_is_gone(tmp_path: Path) -> None:
    assert write_documents(tmp_path)
    assert write_documents(tmp_path) == []
    gone = tmp_path / "schemas" / "records" / "gone.json"
    gone.write_text("{}")
    assert write_documents(tmp_path) == [gone]
    assert not gone.exists()


def test_every_reference_leads_somewhere() -> None:
    document = yaml.safe_load(documents()["asyncapi.yaml"])
    references = list(_references(document))
    assert references
    for reference in references:
        target = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_it_says_what_the_socket_takes_and_gives() -> None:
    channel = asyncapi(load_topics())["channels"]["socket"]
    assert {"Hello", "Welcome", "NotificationFrame"} <= channel["messages"].keys()


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [r for value in node.values() for r in _references(value)]
    return [r for item in node for r in _references(item)] if isinstance(node, list) else []


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text
