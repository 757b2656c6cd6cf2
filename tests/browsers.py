"""Real Chromium as a fixture, and the pages that it opens: a server on another origin than the gateway's."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from proof.proxy import Proxy
from stack.ports import LOOPBACK, free_port
from tests.system import ROOT, System, stop

CLIENT = ROOT / "clients" / "js" / "tocsin.js"
SOURCES = ROOT / "tests" / "browser"
SCRIPTS = {"/tocsin.js": CLIENT, "/page.js": SOURCES / "page.js"}
EMPTY = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>page</title>'
END = 20.0  # s

Tokens = Callable[[str, str, float], str]  # user, device ("": none), seconds


class Site:
    """Serves pages, the client, and tokens as a backend would; `tokens` and `pages` (HTML by path) are set by tests."""

    def __init__(self) -> None:
        self.tokens: Tokens = _no_tokens
        self.pages = {"/": f'{EMPTY}<script type="module" src="/page.js"></script>'}
        self._server = ThreadingHTTPServer((LOOPBACK, free_port()), self._handler())
        self.origin = f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(END)

    def answer(self, target: str) -> tuple[str, bytes] | None:
        """Return the content type and the content of what a browser asks for, None if there is nothing."""
        parts = urlsplit(target)
        if script := SCRIPTS.get(parts.path):
            return "text/javascript", script.read_bytes()
        if page := self.pages.get(parts.path):
            return "text/html", page.encode()
        if parts.path == "/token":
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            token = self.tokens(asked.get("user", "u1"), asked.get("device", ""), float(asked.get("ttl", 600)))
            return "text/plain", token.encode()
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = site.answer(self.path)
                self.send_response(200 if found else 404)
                kind, content = found or ("text/plain", b"")
                self.send_header("Content-Type", f"{kind}; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # a page that is closed takes no answer
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def tokens_from(site: Site, system: System, signed_in: str = "") -> Iterator[None]:
    """Let the site's backend sign with the secret of a deployment: for who is signed in, else for who is named."""
    before, site.tokens = site.tokens, lambda user, device, ttl: system.token(signed_in or user, device or None, ttl)
    yield
    site.tokens = before


def _no_tokens(user: str, device: str, ttl: float) -> str:
    raise NotImplementedError("a test says who makes tokens")


class Wire:
    """The network between browsers and a deployment, which tests break; see `proof.proxy`."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxy = Proxy(target.netloc)
        self.url = f"ws://{self._proxy.address}{target.path}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._proxy.listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, at: TracebackType | None) -> None:
        self._do(self._proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(END)
        self._loop.close()

    def cut(self) -> None:
        """End all connections with RST; new ones pass."""
        self._loop.call_soon_threadsafe(self._proxy.cut)

    def hang(self) -> None:
        """Pass nothing on and say nothing of it."""
        self._loop.call_soon_threadsafe(self._proxy.hang)

    def heal(self) -> None:
        """Pass everything on again."""
        self._do(self._proxy.heal())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(END)


class Tab:
    """A page in a browser; `run` and `wait` take JavaScript."""

    def __init__(self, browser: "Chromium", name: str) -> None:
        self._browser = browser
        self._name = name

    def run(self, code: str) -> Any:
        """Return the value of an expression, a promise's included."""
        return self._browser.tell("eval", page=self._name, code=code)

    def wait(self, code: str, within: float = 30) -> None:
        """Wait until an expression is true; failing that, tell what the page has seen."""
        try:
            self._browser.tell("wait", page=self._name, code=code, within=within * 1000)
        except AssertionError as exc:
            parts = "globalThis.states?.slice(-6), globalThis.troubles?.slice(-6), shown.length, shown.slice(-3)"
            seen = f"JSON.stringify([{parts}, globalThis.resets])"
            pytest.fail(f"{exc}; the page saw {self.run(seen)} {self.problems()}")

    def start(self, url: str, user: str, more: str = "{}") -> None:
        """Start the client of `page.js`; `more` is a JavaScript object of other options."""
        self.wait("globalThis.ready")
        self.run(f"start({{url: {json.dumps(url)}, user: {json.dumps(user)}, ...{more}}})")

    def open(self, times: int = 1) -> None:
        """Wait until the client was welcomed so many times."""
        self.wait(f"states.filter(({{state}}) => state === 'open').length >= {times}")

    def shown(self, count: int, within: float = 30) -> list[str]:
        """Return the ids that are shown once they are `count` or more."""
        self.wait(f"shown.length >= {count}", within)
        ids: list[str] = self.run("shown.map((entry) => entry.id ?? entry)")
        return ids

    def reload(self) -> None:
        self._browser.tell("reload", page=self._name)

    def problems(self) -> list[str]:
        """Return the errors that nobody handled, each once."""
        found: list[str] = self._browser.tell("problems", page=self._name)
        return found

    def close(self) -> None:
        """Close the page; once more does nothing."""
        self._browser.tell("close", page=self._name)


class Chromium:
    """Browsers, each with a new folder for what it keeps; they end with the fixture."""

    def __init__(self, folder: Path, origin: str) -> None:
        self._origin = origin
        self._folder = folder
        self._tabs: list[Tab] = []
        self._log = folder / "driver.log"
        command = ["node", "driver.mjs", shutil.which("chromium") or "chromium"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder
            )
        self._lock = threading.Lock()
        self._names = 0

    def tell(self, what: str, **more: Any) -> Any:
        """Say a command and return its value; an error of the page fails the test."""
        process = self._process
        assert process.stdin
        assert process.stdout
        with self._lock:
            process.stdin.write(json.dumps({"do": what, **more}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        assert line, f"the browser has ended: {self._log.read_text()[-2000:]}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def profile(self, *, blocked: bool = False) -> str:
        """Start a browser, one whose pages may keep nothing if `blocked`, and return its name."""
        name = self._name("profile")
        self.tell("profile", name=name, folder=str(self._folder / name), blocked=blocked)
        return name

    def tab(self, profile: str, path: str = "/") -> Tab:
        """Open a page of the site."""
        name = self._name("page")
        self.tell("open", name=name, profile=profile, url=self._origin + path)
        self._tabs.append(Tab(self, name))
        return self._tabs[-1]

    def close_tabs(self) -> None:
        """Close all pages."""
        for tab in self._tabs:
            tab.close()
        self._tabs.clear()

    def sleep(self, profile: str) -> None:
        """Stop the processes of a browser, as a machine that is closed does."""
        self._each(profile, psutil.Process.suspend)

    def wake(self, profile: str) -> None:
        """Let them go on."""
        self._each(profile, psutil.Process.resume)

    def _each(self, profile: str, do: Callable[[psutil.Process], None]) -> None:
        """Do something to each process of a browser: the one that has its folder, and all that it started."""
        of_profile = f"--user-data-dir={self._folder / profile}"
        for process in psutil.Process(self._process.pid).children():
            if of_profile in process.cmdline():
                for each in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                        do(each)

    def offline(self, profile: str, *, offline: bool) -> None:
        """Take the network from the pages of a browser, or give it back."""
        self.tell("offline", profile=profile, offline=offline)

    def end(self) -> None:
        """End all browsers."""
        if self._process.stdin:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END)
        stop(self._process)
        if self._process.stdout:
            self._process.stdout.close()

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"


def install(folder: Path) -> Path:
    """Copy the scripts with their locked dependencies into a folder."""
    shutil.copytree(SOURCES, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "*.py"))
    subprocess.run(["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=180)
    return folder


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="session")
def chromium(node_folder: Path, site: Site) -> Iterator[Chromium]:
    running = Chromium(node_folder, site.origin)
    yield running
    running.end()
