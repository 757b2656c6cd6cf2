"""Gathers what `tocsin doctor` wants to know of the keys of tokens."""

from cli.outputs import Finding
from gateway.jwks import check_address, read
from gateway.keys import Key, given_keys
from schemas.errors import BadKey, SettingsError
from streams.security import client_context
from streams.settings import Settings

CHECK = "keys of tokens"


async def examine_tokens(settings: Settings) -> list[Finding]:
    """Return the findings about the keys that gateways with these settings know."""
    try:
        keys = given_keys(settings.secret or "", settings.listed("keys"))
    except SettingsError as exc:
        return [Finding(CHECK, "FAIL", str(exc))]
    found = [_published(*(await _read(settings)))] if settings.jwks else []
    if keys:
        return [Finding(CHECK, "ok", "; ".join(key.shown() for key in keys)), *found]
    if found:
        return found
    advice = "set TOCSIN_SECRET, TOCSIN_KEYS or TOCSIN_JWKS for gateways"
    return [Finding(CHECK, "warn", "none is set in this environment", advice)]


async def _read(settings: Settings) -> tuple[list[Key], str]:
    try:
        check_address(settings.jwks)
        keys, reasons = await read(settings.jwks, client_context("TOCSIN_JWKS", settings.jwks_ca))
    except (BadKey, SettingsError) as exc:
        return [], str(exc)
    return keys, "; ".join(reasons)


def _published(keys: list[Key], reason: str) -> Finding:
    if not keys:
        advice = "gateways keep the keys that they have read, and know none if they start now"
        return Finding("published keys", "warn", f"TOCSIN_JWKS: {reason}", advice)
    unused = f"; not used: {reason}" if reason else ""
    return Finding("published keys", "ok", "; ".join(key.shown() for key in keys) + unused)
