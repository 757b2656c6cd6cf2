"""`tocsin docs`: made from the types themselves: schemas of records, frames and what `--json` prints, and AsyncAPI."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import yaml

from cli import outputs
from schemas import frames, records, replays
from streams.topics import Topics, load_topics

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
SHARED: Final = "#/components/schemas/{name}"

CLIENT_FRAMES: Final = get_args(frames.ClientFrame)
SERVER_FRAMES: Final = get_args(frames.ServerFrame)
CONNECTION_RECORDS: Final = get_args(records.Connection)
# What each topic carries; a dead letter is the record that it was.
RECORDS: Final[Mapping[str, Sequence[type]]] = {
    "notifications.critical": (records.Notification,),
    "notifications.normal": (records.Notification,),
    "notifications.bulk": (records.Notification,),
    "connections": CONNECTION_RECORDS,
    "acks": (records.Acks,),
    "statuses": (records.Status,),
    "dead-letters": (),
    "replays": (replays.Run, replays.Marks),
    "revocations": (records.Revocation,),
}
# What `--json` prints, by command; what goes on prints one document per line.
COMMANDS: Final[Mapping[str, Any]] = {
    "config": dict[str, outputs.Setting],
    "dlq drop": outputs.Run,
    "dlq ls": list[outputs.Letters],
    "dlq redrive": outputs.Run,
    "dlq show": list[outputs.Letter],
    "doctor": outputs.Examination,
    "kick": outputs.Sessions,
    "lag": outputs.Lag,
    "listen": outputs.Entry,
    "replay list": list[outputs.Run],
    "replay rebuild": outputs.Run,
    "replay redeliver": outputs.Run,
    "replay redrive": outputs.Run,
    "replay show": outputs.Run,
    "revoke": outputs.Revoked,
    "send": outputs.Sent,
    "sessions": outputs.Sessions,
    "store apply": outputs.Migrated,
    "store plan": outputs.Migrations,
    "topics apply": outputs.TopicsApplied,
    "topics plan": outputs.TopicsPlan,
}
HEADERS: Final = {
    "tocsin-topic": "topic that the record came from",
    "tocsin-partition": "its partition",
    "tocsin-offset": "its offset; of a batch that cannot be read, the first",
    "tocsin-last-offset": "the last offset of such a batch, where it has more than one",
    "tocsin-time": "ms since 1970 at which Kafka took it",
    "tocsin-reason": f"a code: {', '.join(records.REASONS)}",
    "tocsin-error": "a sentence",
    "tocsin-truncated": "what of the record is not whole",
}


def documents() -> dict[str, str]:
    """Return every document by its path within the folder of documents."""
    shown: dict[str, Any] = {f"schemas/records/{_file(t)}": t for types in RECORDS.values() for t in types}
    shown |= {f"schemas/frames/client/{_file(t)}": t for t in CLIENT_FRAMES}
    shown |= {f"schemas/frames/server/{_file(t)}": t for t in SERVER_FRAMES}
    shown |= {f"schemas/commands/{name.replace(' ', '-')}.json": type_ for name, type_ in COMMANDS.items()}
    texts = {path: _json_schema(type_) for path, type_ in shown.items()}
    return {**texts, "asyncapi.yaml": _yaml(asyncapi(load_topics()))}


def write_documents(folder: Path) -> list[Path]:
    """Write what differs, remove schemas of types that are gone, and return the paths that changed."""
    texts = documents()
    gone = [p for p in (folder / "schemas").rglob("*.json") if p.relative_to(folder).as_posix() not in texts]
    for path in gone:
        path.unlink()
    changed = [folder / name for name, text in texts.items() if not _is(folder / name, text)]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[path.relative_to(folder).as_posix()])
    return gone + changed


def asyncapi(topics: Topics) -> dict[str, Any]:
    """Return the AsyncAPI 3.0 document: a channel for each topic, and one for the socket."""
    types = [t for ts in RECORDS.values() for t in ts] + list(CLIENT_FRAMES) + list(SERVER_FRAMES)
    _, schemas = msgspec.json.schema_components(types, ref_template=SHARED)
    messages = {t.__name__: _message(t) for t in types}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Tocsin",
            "version": "1",  # the `v` of the records
            "description": "Topics that producers and gateways write, and the socket that devices hold.",
        },
        "defaultContentType": "application/json",
        "channels": {**{name: _topic(name, topics) for name in topics.topics}, "socket": _socket()},
        "operations": _operations(topics),
        "components": {"messages": {**messages, "DeadLetter": _dead_letter()}, "schemas": schemas},
    }


def _topic(name: str, topics: Topics) -> dict[str, Any]:
    topic = topics.topic(name)
    types = [t.__name__ for t in RECORDS[name]] or ["DeadLetter"]
    return {
        "address": name,
        "description": f"{topic.description}; the key is: {topic.key}",
        "messages": _refs(types),
        "bindings": {"kafka": {"topic": name, "partitions": topics.profile("prod").partitions}},
    }


def _socket() -> dict[str, Any]:
    text = {"type": "string"}
    query = {"type": "object", "required": ["token"], "properties": {"token": text, "hello": {"enum": ["1"]}}}
    return {
        "address": "/ws",
        "description": "WebSocket; each text message is one JSON object with `type`",
        "messages": _refs([t.__name__ for t in (*CLIENT_FRAMES, *SERVER_FRAMES)]),
        "bindings": {"ws": {"method": "GET", "query": query}},
    }


def _operations(topics: Topics) -> dict[str, Any]:
    """Say what Tocsin itself receives and sends."""
    received = [name for name, topic in topics.topics.items() if topic.role == "inbox"]
    sent = [name for name in topics.topics if name not in received]
    operations = {f"receive.{name}": _operation("receive", name) for name in received}
    operations |= {f"send.{name}": _operation("send", name) for name in sent}
    operations["hear"] = {**_operation("receive", "socket"), "messages": _channel_refs(CLIENT_FRAMES)}
    operations["say"] = {**_operation("send", "socket"), "messages": _channel_refs(SERVER_FRAMES)}
    return operations


def _operation(action: str, channel: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}}


def _channel_refs(types: Sequence[type]) -> list[dict[str, str]]:
    return [{"$ref": f"#/channels/socket/messages/{t.__name__}"} for t in types]


def _refs(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _message(type_: type) -> dict[str, Any]:
    return {"name": type_.__name__, "payload": {"$ref": SHARED.format(name=type_.__name__)}}


def _dead_letter() -> dict[str, Any]:
    properties = {name: {"type": "string", "description": text} for name, text in HEADERS.items()}
    return {
        "name": "DeadLetter",
        "contentType": "application/octet-stream",
        "headers": {"type": "object", "properties": properties, "required": list(HEADERS)},
        "payload": {},
    }


def _json_schema(type_: Any) -> str:
    schema = {"$schema": DRAFT, **msgspec.json.schema(type_)}
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def _file(type_: type) -> str:
    """Return the file's name: Hello -> hello.json, OpenSession -> open-session.json."""
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type_.__name__)
    return f"{words.removeprefix('-').removesuffix('-frame')}.json"


def _yaml(document: dict[str, Any]) -> str:
    head = "# Made from the types by `tocsin docs`; do not change it by hand.\n"
    # through JSON, so that no object is shared: YAML would write anchors
    plain = msgspec.json.decode(msgspec.json.encode(document))
    return head + yaml.safe_dump(plain, sort_keys=False, width=120, allow_unicode=True)


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text
