"""`passing_pure`, or the same in C where the installation had a compiler for it; `LANGUAGE` says which."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.passing_pure import Position, Readers, Way, pass_all, pass_on

    LANGUAGE: str
else:
    try:
        from gateway._passing import Position, Readers, Way, pass_all, pass_on

        LANGUAGE = "C"
    except ImportError:
        from gateway.passing_pure import Position, Readers, Way, pass_all, pass_on

        LANGUAGE = "Python"

__all__ = ["LANGUAGE", "Position", "Readers", "Way", "pass_all", "pass_on"]
