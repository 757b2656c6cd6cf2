"""The scene of a story: an experiment, the deployment, traps, what Redis loses, and the users of the story."""

from typing import Final

from proof.cluster import Cluster
from proof.experiment import Run
from tests.faults.traps import Traps

NORMAL: Final = "inbox/normal"
SOON: Final = 60.0  # s


class Losses:
    """What Redis loses: the first publish to a gateway that has a certain entry in it."""

    def __init__(self) -> None:
        self._id = b""
        self.lost = False

    def chosen(self, channel: bytes, message: bytes) -> bool:
        """Say whether this publish is lost."""
        if not self._id or b"gw:" not in channel or self._id not in message:
            return False
        self._id, self.lost = b"", True
        return True

    def lose(self, id_: str) -> None:
        """Lose the entry's first publish."""
        self._id, self.lost = id_.encode(), False


class Scene:
    """An experiment and what a story does in it."""

    def __init__(self, run: Run, cluster: Cluster, traps: Traps, losses: Losses, users: list[str]) -> None:
        self.run = run
        self.cluster = cluster
        self.traps = traps
        self.losses = losses
        self.victim, *self._witnesses = users

    def send(self, count: int = 1) -> list[str]:
        """Send to the victim and return the ids."""
        return [self.run.load.send(self.victim) for _ in range(count)]

    async def shown(self, count: int) -> None:
        """Send to the victim and return when its devices have shown it."""
        await self.until_shown(self.send(count))

    async def until_shown(self, ids: list[str]) -> None:
        """Return when the victim's devices have shown these."""
        await self._until_shown(self.victim, ids)

    async def seen_by_witnesses(self) -> None:
        """Return when a record to each witness has been shown, so that everything before it has had its chance."""
        await self.shown_to(self._witnesses)

    async def shown_to(self, users: list[str]) -> None:
        """Send to each of some users and return when their devices have shown it."""
        sent = [(user, self.run.load.send(user)) for user in users]
        for user, id_ in sent:
            await self._until_shown(user, [id_])

    async def _until_shown(self, user: str, ids: list[str]) -> None:
        shown = self.run.devices.recorder.shown
        devices = [device.name for device in self.run.devices.swarm.devices if device.user == user]
        await self.run.wait(
            lambda: all(id_ in shown[user, name, NORMAL] for name in devices for id_ in ids),
            f"{user} has shown {len(ids)} more",
            SOON,
        )

    async def acknowledged(self, count: int) -> None:
        """Return when Kafka has taken so many records of this story."""
        await self.run.wait(lambda: self.run.load.acknowledged >= count, f"{count} records are acknowledged", SOON)

    async def springs(self, effect: str) -> None:
        """Return when a process has come upon a trap."""
        await self.run.wait(lambda: self.traps.sprung(effect), f"the trap at {effect!r} is sprung", SOON)
