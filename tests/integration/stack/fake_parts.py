"""Stands for the command line of Tocsin where only its supervision is tested: `fake_parts.py FOLDER COMMAND …`.

Each command notes in FOLDER/events that it was run and how it ended. A file FOLDER/broken-NAME makes the part of that
name end at once.
"""

import http.server
import json
import os
import signal
import sys
from pathlib import Path


class _Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health/ready" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:  # the log of the test is its events
        return


def main() -> None:
    folder, name = Path(sys.argv[1]), os.environ.get("TOCSIN_INSTANCE") or " ".join(sys.argv[2:])
    _note(folder, f"start {name}")
    settings = {k: v for k, v in os.environ.items() if k.startswith("TOCSIN_")}
    (folder / f"told-{name.replace(' ', '-')}").write_text(json.dumps(settings))
    if (folder / f"deaf-{name.replace(' ', '-')}").exists():
        signal.pause()
    if (folder / f"broken-{name.replace(' ', '-')}").exists():
        sys.exit("error: broken for the test")
    if port := os.environ.get("TOCSIN_METRICS_PORT"):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            http.server.HTTPServer(("127.0.0.1", int(port)), _Health).serve_forever()
        finally:
            _note(folder, f"stop {name}")


def _note(folder: Path, event: str) -> None:
    with (folder / "events").open("a") as file:
        file.write(f"{event}\n")


main()
