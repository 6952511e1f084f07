"""OAuth2 access tokens of a mailbox, by refresh token, kept until shortly before they expire."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import httpx

from workflow.settings.settings import OAuth2

# seconds before expiry at which a token counts as old: clocks differ, logins take time
EXPIRY_MARGIN = 60.0
# seconds, where the server does not say (RFC 6749 §5.1 only recommends expires_in)
DEFAULT_LIFETIME = 3600.0
TIMEOUT = 30.0


class TokenRefusedError(Exception):
    """The token endpoint gives no token for these credentials; a person has to consent again."""


class TokenStore(Protocol):
    """Durable store of a mailbox's refresh token. Its methods raise SQLAlchemyError."""

    def load(self) -> str | None:
        """Return the rotated token that replaces the one of the settings, or None."""
        ...

    def record_refresh(self, token: str, seconds: float | None) -> None:
        """Record durably, before returning, that this token works.

        `seconds`: how long it will, None where the endpoint does not say.
        """
        ...

    def record_refusal(self) -> None:
        """Record that the endpoint refuses the token."""
        ...


class AccessTokens:
    """Access tokens of one mailbox; for use by one thread.

    A crash between the endpoint's answer and our commit loses a token that was rotated just then.
    """

    def __init__(
        self,
        settings: OAuth2,
        store: TokenStore | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._now = now
        self._configured_token = self._refresh = settings.refresh_token.get_secret_value()
        # refresh token and its life that are not stored yet
        self._unstored_token: tuple[str, float | None] | None = None
        self._token = ""
        self._expires_at = 0.0

    def get_token(self) -> str:
        """Return a token with some life left, from memory or from the endpoint.

        Raises TokenRefusedError when asking again is pointless, httpx.HTTPError when it is worth a
        retry, and what the token store raises.
        """
        self._remember()  # in case the database was away before
        if not self._token or self._now() >= self._expires_at:
            self._request_token()
            self._remember()
        return self._token

    def discard(self) -> None:
        """Drop a token that the mail server refused: the next one comes from the endpoint."""
        self._token = ""

    def _remember(self) -> None:
        """Store the refresh token that the endpoint gave last, unless it is stored."""
        if self._store and self._unstored_token:
            self._store.record_refresh(*self._unstored_token)
        self._unstored_token = None

    def _request_token(self) -> None:
        """Get a token from the endpoint, with the stored refresh token or that of the settings."""
        if self._store:  # each time: another host may have refreshed it meanwhile
            self._refresh = self._store.load() or self._configured_token
        try:
            self._request_with_any(dict.fromkeys((self._refresh, self._configured_token)))
        except TokenRefusedError:
            if self._store:
                self._store.record_refusal()
            raise

    def _request_with_any(self, tokens: Iterable[str]) -> None:
        """Get a token with the first refresh token that is not refused.

        When the rotated one has become invalid, the one of the settings may still work.
        """
        refusal = TokenRefusedError()
        for self._refresh in tokens:
            try:
                return self._request_with_current()
            except TokenRefusedError as error:
                refusal = error
        raise refusal

    def _request_with_current(self) -> None:
        """Get a token with the current refresh token.

        Raises TokenRefusedError and httpx.HTTPError.
        """
        asked_at = self._now()
        response = httpx.post(self._settings.token_url, data=self._build_form(), timeout=TIMEOUT)
        if response.status_code in {400, 401, 403}:
            # RFC 6749 §5.2; any other status may pass (429, 5xx, a proxy's page)
            raise TokenRefusedError
        response.raise_for_status()
        answer = _parse_answer(response)
        self._token = str(answer["access_token"])
        # some servers rotate it (RFC 6749 §6)
        self._refresh = str(answer.get("refresh_token") or self._refresh)
        self._expires_at = asked_at + _parse_lifetime(answer.get("expires_in")) - EXPIRY_MARGIN
        # not in a standard, but some servers return it
        lifetime = str(answer.get("refresh_token_expires_in", ""))
        self._unstored_token = self._refresh, float(lifetime) if lifetime.isdigit() else None

    def _build_form(self) -> dict[str, str]:
        """Return the form data of the token request (RFC 6749 §6)."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh,
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.get_secret_value(),
            "scope": self._settings.scope,
        }
        return {name: value for name, value in form.items() if value}


def _parse_answer(response: httpx.Response) -> dict[str, object]:
    """Parse the endpoint's JSON object.

    A token that could break out of the SASL string counts as no answer. Raises httpx.DecodingError.
    """
    try:
        answer = response.json()
    except ValueError:
        answer = None
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not (isinstance(token, str) and token.isascii() and token.isprintable() and token):
        raise httpx.DecodingError("no access token in the answer", request=response.request)
    assert isinstance(answer, dict)
    return answer


def _parse_lifetime(expires_in: object) -> float:
    """Return the token's life in seconds; some endpoints send the number as text."""
    text = str(expires_in)
    return float(text) if text.isdigit() else DEFAULT_LIFETIME
