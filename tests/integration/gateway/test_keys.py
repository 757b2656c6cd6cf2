"""Keys from an address and from files, while a gateway runs: new ones, gone ones, floods of made-up ones, outages."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jwt
import pytest
import websockets
from aiohttp import web

from cli.doctor.tokens import examine_tokens
from gateway import codes
from gateway.admission import AddressLimits
from gateway.jwks import MOST, check_address, fetch, read
from gateway.reloading import Certificate
from schemas.errors import BadKey, SettingsError
from streams.security import server_context
from streams.settings import Settings
from tests.integration.gateway.conftest import SECRET, Client, Running, Start, token, until
from tests.integration.security.certificates import authority, certificate
from tests.unit.gateway.tokens import PRIVATE, jwk, pem, public


def signed(algorithm: str, kid: str | None, user: str = "u1") -> str:
    claims = jwt.decode(token(user), SECRET, ["HS256"])
    return jwt.encode(claims, PRIVATE[algorithm], algorithm, {"kid": kid} if kid else None)


class Issuer:
    """A real HTTP server that publishes keys; `asked` counts the requests."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.answer: Callable[[], web.StreamResponse] | None = None
        self.silent = asyncio.Event()
        self.silent.set()
        self.url = ""

    async def respond(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self.silent.wait()
        return self.answer() if self.answer else web.json_response({"keys": self.keys})


async def served(issuer: Issuer, tls: ssl.SSLContext | None = None) -> web.AppRunner:
    app = web.Application()
    app.router.add_get("/{path:.*}", issuer.respond)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    issuer.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/keys"
    return runner


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    runner = await served(made)
    yield made
    made.silent.set()
    await runner.cleanup()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.jwks.PAUSE", 0.2)
    monkeypatch.setattr("gateway.jwks.RETRY", 0.3)
    monkeypatch.setattr("gateway.reloading.LOOK", 0.05)


async def code_of(gateway: Running, text: str, **options: Any) -> tuple[int, str]:
    """Return how a token is refused; (0, "") if it is not."""
    async with gateway.client(jwt_=text, welcomed=False, **options) as client:
        try:
            await client.say("ping")
            await client.next(10)
        except websockets.ConnectionClosed:
            await client.socket.wait_closed()
            return int(client.socket.close_code), str(client.socket.close_reason)
    return 0, ""


async def test_published_keys_of_every_kind_are_good_beside_the_secret(issuer: Issuer, start: Start) -> None:
    issuer.keys = [jwk(each, kid=each) for each in ("RS256", "ES256", "EdDSA")]
    gateway = await start(jwks=issuer.url)
    for algorithm in ("RS256", "ES256", "EdDSA"):
        for kid in (algorithm, None):
            async with gateway.client(jwt_=signed(algorithm, kid)):
                pass
    async with gateway.client():
        pass
    assert issuer.asked == 1


async def test_a_key_that_is_new_is_read_while_its_first_token_waits(issuer: Issuer, start: Start) -> None:
    issuer.keys = [jwk("ES256", kid="old")]
    gateway = await start(jwks=issuer.url)
    issuer.keys = [jwk("RS256", kid="new"), jwk("ES256", kid="old")]
    async with gateway.client(jwt_=signed("RS256", "new"), with_hello=True, welcomed=False) as client:
        await client.say("hello", device="d")  # while the token is looked at
        assert (await client.next())["device"] == "d"
        await client.say("refresh", token=signed("ES256", "old"))
        await client.say("ping")
        assert await client.next() == {"type": "pong"}
    assert issuer.asked == 2


async def test_it_is_read_for_a_refresh_and_for_a_hello_too(issuer: Issuer, start: Start) -> None:
    issuer.keys = [jwk("ES256", kid="old")]
    gateway = await start(jwks=issuer.url)
    issuer.keys = [jwk("RS256", kid="new")]
    async with gateway.client() as client:
        await client.say("refresh", token=signed("RS256", "new"))
        await until(lambda: gateway.gateway.hub.sessions and _claims(gateway).issued == 0.0 and issuer.asked == 2)
    issuer.keys = [jwk("EdDSA", kid="newer")]
    async with gateway.client(jwt_="", with_hello=True, welcomed=False) as client:
        await client.say("hello", token=signed("EdDSA", "newer"))
        assert (await client.next())["type"] == "welcome"


def _claims(gateway: Running) -> Any:
    return next(iter(gateway.gateway.hub.sessions.values())).claims


async def test_a_flood_of_made_up_names_does_not_hammer_the_address(
    issuer: Issuer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jwks.PAUSE", 1.0)
    issuer.keys = [jwk("ES256", kid="k")]
    gateway = await start(jwks=issuer.url)
    ends = await asyncio.gather(*(code_of(gateway, signed("RS256", f"made-up-{n}")) for n in range(60)))
    assert set(ends) == {(codes.BAD_TOKEN, "the token names a key (`kid`) that is not known here")}
    assert issuer.asked <= 3
    assert await code_of(gateway, signed("ES256", "k")) == (0, "")


async def test_more_than_may_wait_are_told_to_come_again(
    issuer: Issuer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jwks.WAITING", 5)
    issuer.keys = [jwk("ES256", kid="k")]
    gateway = await start(jwks=issuer.url)
    ends = await asyncio.gather(*(code_of(gateway, signed("RS256", "x")) for n in range(30)))
    assert {code for code, _ in ends} == {codes.BAD_TOKEN, codes.RESTART}


async def test_one_address_does_not_take_every_place(
    issuer: Issuer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.jwks.PAUSE", 1.0)
    monkeypatch.setattr("gateway.jwks.WAITING_EACH", 5)
    issuer.keys = [jwk("ES256", kid="k")]
    gateway = await start(jwks=issuer.url, addresses=AddressLimits(exempt=(), proxies=(ip_network("127.0.0.0/8"),)))
    issuer.keys = [jwk("RS256", kid="new")]

    def of(address: str, kid: str) -> Coroutine[Any, Any, tuple[int, str]]:
        return code_of(gateway, signed("RS256", kid), additional_headers={"X-Forwarded-For": address})

    flood = [asyncio.create_task(of("198.51.100.1", "made-up")) for _ in range(30)]
    await until(lambda: sum(task.done() for task in flood) == 25)
    assert await of("198.51.100.2", "new") == (0, "")
    ends = [code for code, _ in await asyncio.gather(*flood)]
    assert (ends.count(codes.RESTART), ends.count(codes.BAD_TOKEN)) == (25, 5)


async def test_what_was_read_stays_good_while_the_address_is_away(issuer: Issuer, start: Start) -> None:
    issuer.keys = [jwk("ES256", kid="k")]
    gateway = await start(jwks=issuer.url)
    issuer.answer = lambda: web.Response(status=500)
    code, reason = await code_of(gateway, signed("RS256", "new"))
    assert (code, reason) == (codes.RESTART, "the keys of tokens cannot be read now; come again")
    assert await code_of(gateway, signed("ES256", "k")) == (0, "")
    issuer.answer = None
    issuer.keys = [jwk("RS256", kid="new")]
    assert await code_of(gateway, signed("RS256", "new")) == (0, "")
    assert (await code_of(gateway, signed("ES256", "k")))[0] == codes.BAD_TOKEN  # taken back by the issuer


async def test_an_address_that_hangs_holds_nobody_else_up(
    issuer: Issuer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.opening.OPENING", 0.5)
    issuer.keys = [jwk("ES256", kid="k")]
    gateway = await start(jwks=issuer.url)
    issuer.silent.clear()
    waiting = asyncio.create_task(code_of(gateway, signed("RS256", "new")))
    await until(lambda: issuer.asked == 2)
    assert await code_of(gateway, signed("ES256", "k")) == (0, "")
    assert (await waiting)[0] == codes.RESTART


async def test_a_gateway_starts_without_the_address_and_says_so(issuer: Issuer, start: Start) -> None:
    issuer.answer = lambda: web.Response(status=503)
    gateway = await start(jwks=issuer.url)
    reason = gateway.gateway._problems()["keys"]
    assert reason() == f"the keys at {issuer.url} have not been read yet"
    async with gateway.client():  # by the secret
        pass
    issuer.answer, issuer.keys = None, [jwk("ES256", kid="k")]
    await until(lambda: reason() is None)
    assert await code_of(gateway, signed("ES256", None)) == (0, "")


REDIRECTS = {
    "elsewhere": lambda issuer: web.Response(status=302, headers={"Location": "https://evil.example/keys"}),
    "the same": lambda issuer: web.Response(status=307, headers={"Location": issuer.url + "2"}),
}


@pytest.mark.parametrize("kind", REDIRECTS)
async def test_a_redirect_is_not_followed(issuer: Issuer, kind: str) -> None:
    issuer.answer = lambda: REDIRECTS[kind](issuer)
    with pytest.raises(BadKey, match="redirects are not followed"):
        await fetch(issuer.url)
    assert issuer.asked == 1


ANSWERS: dict[str, tuple[Callable[[], web.StreamResponse], str]] = {
    "large": (lambda: web.Response(body=b"x" * (MOST + 1)), "more than"),
    "no JSON": (lambda: web.Response(body=b"<html>"), "not JSON"),
    "compressed": (lambda: web.Response(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}), "not JSON"),
    "empty": (lambda: web.json_response({"keys": []}), "no key"),
    "a secret": (lambda: web.json_response({"keys": [jwk("HS256", b"s" * 32)]}), "secret"),
    "not found": (lambda: web.Response(status=404), "HTTP 404"),
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_answer_that_is_no_set_of_keys_is_refused(issuer: Issuer, kind: str) -> None:
    issuer.answer, reason = ANSWERS[kind]
    with pytest.raises(BadKey, match=reason):
        await read(issuer.url)


async def test_an_address_that_nobody_answers_at(free_port: int) -> None:
    with pytest.raises(BadKey, match="cannot be reached"):
        await fetch(f"http://127.0.0.1:{free_port}/")


async def test_an_address_that_is_silent_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.jwks.WITHIN", 0.2)
    issuer.silent.clear()
    with pytest.raises(BadKey, match="did not answer within"):
        await fetch(issuer.url)


async def test_its_certificate_is_checked(tmp_path: Path) -> None:
    ours, stranger = authority(tmp_path, "ours"), authority(tmp_path, "stranger")
    keys = certificate(tmp_path, "issuer", ours, names="IP:127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(keys.certificate, keys.key)
    issuer = Issuer()
    issuer.keys = [jwk("ES256", kid="k")]
    runner = await served(issuer, context)
    try:
        good = ssl.create_default_context(cafile=str(ours.certificate))
        assert [key.kid for key in (await read(issuer.url, good))[0]] == ["k"]
        with pytest.raises(BadKey, match="cannot be reached"):
            await read(issuer.url, ssl.create_default_context(cafile=str(stranger.certificate)))
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "url",
    [
        "http://id.example/keys",
        "ftp://id.example/",
        "id.example/keys",
        "https://",
        "https://u:p@id.example/",
        "http://[",
    ],
)
def test_an_address_that_others_could_answer_for_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="TOCSIN_JWKS"):
        check_address(url)


async def test_a_header_never_names_where_keys_are(issuer: Issuer, start: Start) -> None:
    """`jku` and `x5u` are what an attacker writes: nobody asks there."""
    evil = Issuer()
    runner = await served(evil)
    evil.keys = [jwk("RS256", kid="evil")]
    issuer.keys = [jwk("ES256", kid="k")]
    gateway = await start(jwks=issuer.url)
    claims = jwt.decode(token("u1"), SECRET, ["HS256"])
    headers = {"kid": "evil", "jku": evil.url, "x5u": evil.url, "jwk": jwk("RS256")}
    assert (await code_of(gateway, jwt.encode(claims, PRIVATE["RS256"], "RS256", headers)))[0] == codes.BAD_TOKEN
    assert evil.asked == 0
    await runner.cleanup()


# Files


async def test_keys_in_files_change_while_a_gateway_runs(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "a.pem").write_bytes(pem(public("RS256")))
    gateway = await start(key_files=(str(folder),))
    assert await code_of(gateway, signed("RS256", "a")) == (0, "")
    (folder / "b.json").write_text(json.dumps(jwk("ES256", kid="b")))
    await until(lambda: gateway.gateway.hub.ring.names("b"))
    async with gateway.client(jwt_=signed("ES256", "b")) as client:  # what is open stays open
        (folder / "a.pem").unlink()
        await until(lambda: not gateway.gateway.hub.ring.names("a"))
        assert (await code_of(gateway, signed("RS256", "a")))[0] == codes.BAD_TOKEN
        await client.say("ping")
        assert await client.next() == {"type": "pong"}


async def test_a_file_that_becomes_bad_changes_nothing_and_is_said_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "k.pem"
    path.write_bytes(pem(public("RS256")))
    gateway = await start(key_files=(str(path),))
    path.write_text("half a")
    await until(lambda: any("stays in force" in record.getMessage() for record in caplog.records))
    assert await code_of(gateway, signed("RS256", "k")) == (0, "")
    path.write_bytes(pem(public("ES256")))
    await until(lambda: gateway.gateway.hub.ring.find("ES256", None))
    (said,) = [record.getMessage() for record in caplog.records if "stays" in record.getMessage()]
    assert said.startswith(f"files changed, and what they held before stays in force: TOCSIN_KEYS: {path}: ")


async def test_a_certificate_changes_while_a_gateway_runs(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = authority(tmp_path, "ours")
    first, second = (certificate(tmp_path, name, ours, names="IP:127.0.0.1") for name in ("one", "two"))
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(first.certificate.read_bytes())
    key.write_bytes(first.key.read_bytes())
    files = str(cert), str(key)
    gateway = await start(tls=Certificate(partial(server_context, *files), files))

    async def shown(name: str | None = None) -> bytes:
        context = ssl.create_default_context(cafile=str(ours.certificate))
        context.check_hostname = False
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", gateway.gateway.port, ssl=context, server_hostname=name or ""
        )
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        return bytes(found)

    def der(path: Path) -> bytes:
        return ssl.PEM_cert_to_DER_cert(path.read_text())

    async def until_refused(times: int) -> None:
        await until(lambda: sum("stays in force" in record.getMessage() for record in caplog.records) == times)

    async def until_shown(wanted: bytes) -> None:
        async with asyncio.timeout(5):
            while await shown() != wanted:  # noqa: ASYNC110 - the gateway tells nobody
                await asyncio.sleep(0.02)

    assert await shown() == await shown("localhost") == der(first.certificate)
    context = ssl.create_default_context(cafile=str(ours.certificate))
    async with websockets.connect(gateway.url().replace("ws:", "wss:"), ssl=context, ping_interval=None) as socket:
        client = Client(socket)
        assert (await client.next())["type"] == "welcome"
        cert.write_bytes(second.certificate.read_bytes())  # the key is still that of the first: nothing changes yet
        await until_refused(1)
        assert await shown() == der(first.certificate)
        key.write_bytes(second.key.read_bytes())
        await until_shown(der(second.certificate))
        assert await shown("localhost") == der(second.certificate)
        cert.write_text("broken")
        await until_refused(2)
        assert await shown() == der(second.certificate)
        await client.say("ping")
        assert await client.next() == {"type": "pong"}


# What operators see


async def test_doctor_names_keys_and_warns_of_an_address_that_is_away(issuer: Issuer, tmp_path: Path) -> None:
    path = tmp_path / "web.pem"
    path.write_bytes(pem(public("RS256")))
    issuer.keys = [jwk("ES256", kid="k1")]
    settings = Settings(secret=SECRET, keys=str(path), jwks=issuer.url)
    found = await examine_tokens(settings)
    assert [one.level for one in found] == ["ok", "ok"]
    assert found[0].text == f"HS256 (no kid) from TOCSIN_SECRET; RS256 web from {path}"
    assert found[1].text == f"ES256 k1 from {issuer.url}"
    issuer.answer = lambda: web.Response(status=500)
    assert [one.level for one in await examine_tokens(settings)] == ["ok", "warn"]
    path.write_text("x")
    assert [one.level for one in await examine_tokens(settings)] == ["FAIL"]
