"""`passing_pure`, or the same in C where the installation had a compiler for it; `LANGUAGE` says which."""

from typing import TYPE_CHECKING

from gateway.passing_pure import Left, Passed

if TYPE_CHECKING:
    from gateway.passing_pure import Position, Readers, Way, pass_all

    LANGUAGE: str
else:
    try:
        from gateway._passing import Position, Readers, Way, pass_all

        LANGUAGE = "C"
    except ImportError:
        from gateway.passing_pure import Position, Readers, Way, pass_all

        LANGUAGE = "Python"

__all__ = ["LANGUAGE", "Left", "Passed", "Position", "Readers", "Way", "pass_all"]
