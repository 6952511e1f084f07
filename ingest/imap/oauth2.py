"""Access tokens of a mailbox: the refresh-token grant, kept until shortly before they expire."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol

import httpx

from workflow.settings.settings import OAuth2

EXPIRY_MARGIN = (
    60.0  # seconds before expiry at which a token counts as old: clocks differ, logins take time
)
DEFAULT_LIFETIME = (
    3600.0  # of a token whose server does not say (RFC 6749 §5.1 only recommends expires_in)
)
TIMEOUT = 30.0


class TokenRefusedError(Exception):
    """The token endpoint will not give a token for these credentials.

    A person has to consent again.
    """


class TokenStore(Protocol):
    """Where the refresh token of a mailbox is remembered.

    Raises SQLAlchemyError when it cannot be.
    """

    def load(self) -> str | None:
        """Return the token that the endpoint gave last instead of that of the settings."""
        ...

    def record_refresh(self, token: str, seconds: float | None) -> None:
        """Remember durably, before returning, that this token works.

        And how long it will if the endpoint says so.
        """
        ...

    def record_refusal(self) -> None:
        """Remember that the endpoint will have none of it."""
        ...


class AccessTokens:
    """The access token of one mailbox; used by one thread.

    `token()` raises TokenRefusedError when asking again is pointless, httpx.HTTPError when it is
    worth a retry, and what `kept` raises. A crash between the endpoint's answer and our commit
    loses a token that was rotated just then.
    """

    def __init__(
        self,
        grant: OAuth2,
        kept: TokenStore | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grant = grant
        self._kept = kept
        self._now = now
        self._given = self._refresh = grant.refresh_token.get_secret_value()
        self._news: tuple[str, float | None] | None = (
            None  # what the endpoint said of it, and is not remembered yet
        )
        self._token = ""
        self._old_at = 0.0

    def get_token(self) -> str:
        """Return a token with some life left, from memory or from the endpoint."""
        self._remember()  # the database was away when the endpoint said it
        if not self._token or self._now() >= self._old_at:
            self._ask()
            self._remember()
        return self._token

    def discard(self) -> None:
        """Drop a token that the mail server refused: the next one comes from the endpoint."""
        self._token = ""

    def _remember(self) -> None:
        if self._kept and self._news:
            self._kept.record_refresh(*self._news)
        self._news = None

    def _ask(self) -> None:
        if self._kept:  # anew each time: another host may have read this mailbox meanwhile
            self._refresh = self._kept.load() or self._given
        try:
            self._ask_with_one_of(dict.fromkeys((self._refresh, self._given)))
        except TokenRefusedError:
            if self._kept:
                self._kept.record_refusal()
            raise

    def _ask_with_one_of(self, tokens: Iterable[str]) -> None:
        """The first that is not refused.

        Where the rotated one is worth nothing any more, the first may be.
        """
        refused = TokenRefusedError()
        for self._refresh in tokens:
            try:
                return self._ask_with_it()
            except TokenRefusedError as error:
                refused = error
        raise refused

    def _ask_with_it(self) -> None:
        asked = self._now()
        response = httpx.post(self._grant.token_url, data=self._form(), timeout=TIMEOUT)
        if response.status_code in {
            400,
            401,
            403,
        }:  # RFC 6749 §5.2; anything else may pass (429, 5xx, a proxy's page)
            raise TokenRefusedError
        response.raise_for_status()
        answer = _fields(response)
        self._token = str(answer["access_token"])
        self._refresh = str(
            answer.get("refresh_token") or self._refresh
        )  # some servers rotate it (RFC 6749 §6)
        self._old_at = asked + _seconds(answer.get("expires_in")) - EXPIRY_MARGIN
        lives = str(
            answer.get("refresh_token_expires_in", "")
        )  # no standard has it; some servers say it
        self._news = self._refresh, float(lives) if lives.isdigit() else None

    def _form(self) -> dict[str, str]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._refresh,
            "client_id": self._grant.client_id,
            "client_secret": self._grant.client_secret.get_secret_value(),
            "scope": self._grant.scope,
        }
        return {name: value for name, value in form.items() if value}


def _fields(response: httpx.Response) -> dict[str, object]:
    """Read the endpoint's JSON object.

    A token that could break out of the SASL string counts as no answer.
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


def _seconds(expires_in: object) -> float:
    """Seconds of life; some endpoints send the number as text."""
    text = str(expires_in)
    return float(text) if text.isdigit() else DEFAULT_LIFETIME
