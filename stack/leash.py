"""Runs a command that cannot outlive its parent: `python leash.py PARENT-PID COMMAND ARGUMENT…`.

The kernel is asked to kill this process when the thread that started it ends, whatever ends it (Linux), and then the
process becomes the command. A program of its own and not `preexec_fn`: Python code between fork and exec may deadlock
where other threads run.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command; 127 if it cannot be run, 1 if the parent is gone already."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel was asked, so nothing would end us
            sys.exit(1)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and exec would hand that on
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell: the command comes as a list from our own code
    except OSError as exc:
        sys.exit(f"{command[0]} cannot be run: {exc.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
