"""topics.yaml: the topics of a deployment, with their numbers, roles, sizes and configuration.

Names here are without the deployment's prefix, except where a function says so.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import yaml
from msgspec import Meta

from schemas.errors import TopicsError
from schemas.ids import MAX_PARTITIONS, MAX_TOPIC_NUMBER

WEEK_MS: Final = 7 * 24 * 3600 * 1000

TopicName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,127}$")]
RoleName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9]*$")]
Config = dict[str, str | int | float | bool]
ProfileName = Literal["dev", "prod"]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sizes: the partitions and replicas of every topic, and configuration that goes with them."""

    partitions: Annotated[int, Meta(ge=1, le=MAX_PARTITIONS)]
    replication: Annotated[int, Meta(ge=1)]
    config: Config = {}


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A kind of worker and its tables."""

    description: str
    tables: list[str]


class Topic(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A topic: its number in ids, who consumes it (None: nobody of ours), what its key is."""

    number: Annotated[int, Meta(ge=1, le=MAX_TOPIC_NUMBER)]
    role: RoleName | None
    key: str
    description: str
    config: Config = {}


class Wanted(msgspec.Struct, frozen=True):
    """A topic as the cluster should have it, with the prefix; a `source` is consumed by a role and has incarnations."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    source: bool


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of topics.yaml."""

    profiles: dict[ProfileName, Profile]
    roles: dict[RoleName, Role]
    topics: dict[TopicName, Topic]
    config: Config = {}
    changelog_config: Config = {}

    def topic(self, name: str) -> Topic:
        """Return a topic by name. Raises `TopicsError`."""
        try:
            return self.topics[name]
        except KeyError:
            raise TopicsError(f"topics.yaml has no topic {name!r}; it has {_listed(self.topics)}") from None

    def number_of(self, name: str) -> int:
        """Return the number that stands for a topic in ids. Raises `TopicsError`."""
        return self.topic(name).number

    def role(self, name: str) -> Role:
        """Return a role by name. Raises `TopicsError`."""
        try:
            return self.roles[name]
        except KeyError:
            raise TopicsError(f"there is no role {name!r}; topics.yaml has {_listed(self.roles)}") from None

    def of_role(self, role: str) -> list[str]:
        """Return the names of the topics that a role consumes. Raises `TopicsError`."""
        self.role(role)
        return [name for name, topic in self.topics.items() if topic.role == role]

    def profile(self, name: str) -> Profile:
        """Return a profile by name. Raises `TopicsError`."""
        for known, profile in self.profiles.items():
            if known == name:
                return profile
        raise TopicsError(f"topics.yaml has no profile {name!r}; it has {_listed(self.profiles)}")

    def wanted(self, prefix: str, profile: str) -> list[Wanted]:
        """Return what the cluster should have: every topic, then every table's changelog."""
        sizes = self.profile(profile)
        sources = [
            _wanted(prefix + name, sizes, self.config, sizes.config, topic.config, source=topic.role is not None)
            for name, topic in self.topics.items()
        ]
        changelogs = [
            _wanted(changelog(prefix, role, table), sizes, sizes.config, self.changelog_config, source=False)
            for role, described in self.roles.items()
            for table in described.tables
        ]
        return sources + changelogs


def app_id(prefix: str, role: str) -> str:
    """Return the name of a role's Faust app, which is its consumer group."""
    return f"{prefix}tocsin-{role}"


def changelog(prefix: str, role: str, table: str) -> str:
    """Return the name that Faust gives the changelog of a table."""
    return f"{app_id(prefix, role)}-{table}-changelog"


def default_path() -> Path:
    """Return where the topics.yaml that comes with Tocsin lies."""
    return Path(__file__).resolve().parent.parent / "topics.yaml"


def load_topics(path: Path | None = None) -> Topics:
    """Read topics.yaml, the one that comes with Tocsin if no path is given. Raises `TopicsError`."""
    path = path or default_path()
    try:
        text = path.read_bytes()
    except OSError as exc:
        raise TopicsError(f"{path} cannot be read: {exc.strerror}") from None
    return parse_topics(text, str(path))


def parse_topics(text: bytes, where: str = "topics.yaml") -> Topics:
    """Return the topics that a YAML text describes. Raises `TopicsError` that begins with `where`."""
    try:
        topics = msgspec.convert(yaml.safe_load(text), Topics)
    except yaml.YAMLError as exc:
        raise TopicsError(f"{where} is not YAML: {' '.join(str(exc).split())}") from None
    except msgspec.ValidationError as exc:
        raise TopicsError(f"{where}: {exc}") from None
    for problem in _problems(topics):
        raise TopicsError(f"{where}: {problem}")
    return topics


def _problems(topics: Topics) -> Iterable[str]:
    numbers: dict[int, str] = {}
    for name, topic in topics.topics.items():
        if (other := numbers.setdefault(topic.number, name)) != name:
            yield f"{name} and {other} have the same number {topic.number}; numbers are part of ids"
        if topic.role is not None and topic.role not in topics.roles:
            yield f"{name} is for the role {topic.role!r}, which is not among the roles {_listed(topics.roles)}"
        yield from _retention_problems(name, {**topics.config, **topic.config})


def _retention_problems(name: str, config: Mapping[str, object]) -> Iterable[str]:
    retention = config.get("retention.ms", WEEK_MS)
    if not isinstance(retention, int) or -1 < retention < WEEK_MS or retention < -1:
        yield f"{name} keeps records for retention.ms={retention}; at least {WEEK_MS} (7 days) is needed"
    if config.get("retention.bytes", -1) != -1:
        yield f"{name} has a limit by size (retention.bytes); a busy hour would cut the days"


def _wanted(name: str, sizes: Profile, *layers: Config, source: bool) -> Wanted:
    config = {key: _text(value) for layer in layers for key, value in layer.items()}
    return Wanted(name, sizes.partitions, sizes.replication, config, source)


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
