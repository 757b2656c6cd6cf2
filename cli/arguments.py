"""Arguments and options that several commands have."""

from enum import StrEnum
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]
User = Annotated[str, typer.Argument(help="Id of the user.")]


class Lane(StrEnum):
    """One of a user's inboxes, and the topic of its notifications."""

    critical = "critical"
    normal = "normal"
    bulk = "bulk"
