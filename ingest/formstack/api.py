"""Formstack's REST API as its client sees it.

Both its bases, its limits, and its refusals in words of ours.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from ingest.formstack import submission
from ingest.formstack.eastern import wall_before
from ingest.formstack.submission import NUMBER, Field, Submission
from workflow.runtime import log
from workflow.runtime.clock import Clock
from workflow.settings.settings import Settings

SIZES = (
    100,
    10,
    1,
)  # submissions a page: 100 is the most there is, fewer where a page is too large
MANY_FORMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How we treat the API: seconds, octets and calls; 14,400 calls a day and token are allowed."""

    timeout: float = 30.0  # of silence
    whole: float = 120.0  # for one answer
    largest: int = 32 * 1024 * 1024  # octets of one
    burst: int = 2_000  # calls at once, then one each `every` seconds: 12,800 on the busiest day
    every: float = 8.0
    slow: float = 5.0  # first pause after a 429 that names none, doubling
    longest: float = 3600.0  # pause that is waited out
    tries: int = 6  # of one call


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Paths and parameters of one base."""

    submissions: str
    one: str
    fields: str
    forms: str
    page: str
    size: str
    since: str
    listed: Mapping[str, str]  # further parameters of a list of submissions
    about: Mapping[str, str] = field(default_factory=dict)  # and of the fields


V2 = _Dialect(
    "form/{}/submission.json",
    "submission/{}.json",
    "form/{}/field.json",
    "form.json",
    "page",
    "per_page",
    "min_time",
    {"data": "true", "expand_data": "true", "sort": "ASC"},
)
DATED = _Dialect(
    "forms/{}/submissions",
    "submissions/{}",
    "forms/{}",
    "forms",
    "pageNumber",
    "pageSize",
    "minTime",
    {"data": "true", "expandData": "true", "order": "ASC"},
    {"withFields": "true"},
)

# -- what it says ----

CREDENTIALS_REFUSED = (
    "Formstack refuses the token, or the form's encryption password: "
    "see INTAKE_FORMSTACK_TOKEN and [form.ID]"
)
REFUSALS = {
    401: CREDENTIALS_REFUSED,
    403: "Formstack does not let the owner of the token read this form: give them access to it",
    404: "Formstack knows no such form or base: see [form.ID] and INTAKE_FORMSTACK_API",
}
ENCRYPTED = "Formstack cannot decrypt the submissions: see encryption_password of [form.ID]"
REDIRECT = (
    "the API sends us elsewhere, which is not followed with a token: see INTAKE_FORMSTACK_API"
)
GARBAGE = "the API's answer is not what Formstack documents: see INTAKE_FORMSTACK_API"
NUMBERLESS = "the API lists a submission without a number"
LARGE = "the API's answer is too large"
BUSY = "Formstack asks us to slow down"
SILENT = "Formstack does not answer in time"
AWAY = "Formstack cannot be reached"
ILL = "Formstack has a fault of its own"


class ApiError(Exception):
    """The API did not give what was asked of it; the text is out of our own words.

    `lasting`: it will not pass by itself, a person has to do something.
    """

    def __init__(self, words: str, *, lasting: bool = False) -> None:
        super().__init__(words)
        self.words, self.lasting = words, lasting


class TooLargeError(ApiError):
    """An answer is larger than we take: ask for fewer at once."""


class StoppedError(Exception):
    """We were told to stop while we waited to be allowed the next call."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some submissions of a form, the oldest first.

    How many there are in all and on how many pages, 0 if not told.
    """

    found: tuple[Submission, ...]
    numberless: int
    total: int
    pages: int


class Api:
    """The API under one token; used by one thread.

    `rest` waits for so many seconds and is true when we are to stop. Every call raises ApiError, or
    StoppedError.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rest: Callable[[float], bool],
        pace: Pace | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pace = pace or Pace()
        self._clock, self._rest, self._steady = clock, rest, steady
        self._dialect = (
            DATED if re.search(r"/v20\d\d\b", urlsplit(settings.formstack_api).path) else V2
        )
        self._allowed, self._counted_at = float(self._pace.burst), steady()
        headers = {"Authorization": f"Bearer {settings.formstack_token.get_secret_value()}"}
        self._client = httpx.Client(
            base_url=settings.formstack_api,
            headers={**headers, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=self._pace.timeout,
            follow_redirects=False,  # a redirect would carry the token to whoever it names
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def page(self, form: str, since: datetime, number: int, size: int, password: str) -> Page:
        """Page `number`, from 1, of what was sent to a form at or after `since`.

        A little before it, too.
        """
        said = self._dialect
        asked = {
            said.page: str(number),
            said.size: str(size),
            said.since: wall_before(since),
            **said.listed,
        }
        told = self._get(said.submissions.format(form), asked, password)
        listed = _list(told, "submissions", "data")
        if listed is None or not isinstance(told, dict):
            raise ApiError(GARBAGE, lasting=True)
        read = [submission.submission(one) for one in listed]
        found = tuple(one for one in read if one is not None)
        return Page(
            found,
            len(read) - len(found),
            _count(told, "total"),
            _count(told, "pages", "totalPages"),
        )

    def submission(self, number: str, password: str) -> Submission:
        """One submission with its answers."""
        found = submission.submission(self._get(self._dialect.one.format(number), {}, password))
        if found is None or found.number != number or found.answers is None:
            raise ApiError(GARBAGE, lasting=True)
        return found

    def fields(self, form: str) -> dict[str, Field]:
        """The fields of a form by their number."""
        told = self._get(self._dialect.fields.format(form), dict(self._dialect.about), "")
        listed = told if isinstance(told, list) else _list(told, "fields")
        if listed is None:
            raise ApiError(GARBAGE, lasting=True)
        return {found.number: found for one in listed if (found := submission.field(one))}

    def forms(self) -> Iterator[tuple[str, str]]:
        """Number and name of every form that the token may see."""
        said, seen, number = self._dialect, set[str](), 0
        while len(seen) < MANY_FORMS:
            number += 1
            told = self._get(said.forms, {said.page: str(number), said.size: str(SIZES[0])}, "")
            listed = _list(told, "forms", "data")
            if listed is None:
                raise ApiError(GARBAGE, lasting=True)
            named = {
                str(one.get("id", "")): str(one.get("name", ""))
                for one in listed
                if isinstance(one, dict)
            }
            fresh = {
                key: name
                for key, name in named.items()
                if NUMBER.fullmatch(key) and key not in seen
            }
            yield from fresh.items()
            seen |= fresh.keys()
            if not fresh:  # a list that ignores the page number would never end
                return

    # -- one call ----

    def _get(self, path: str, asked: Mapping[str, str], password: str) -> object:
        """The JSON of an answer, numbers as text; waits for its turn, and as long as a 429 says."""
        for tries in range(1, self._pace.tries + 1):
            self._take_turn()
            try:
                status, headers, body = self._ask(path, asked, password)
            except httpx.TimeoutException:
                raise ApiError(SILENT) from None
            except httpx.DecodingError:
                raise ApiError(GARBAGE) from None
            except httpx.HTTPError:
                raise ApiError(AWAY) from None
            if status != httpx.codes.TOO_MANY_REQUESTS:
                return _understood(status, body)
            if tries < self._pace.tries:
                self._pause(self._seconds(headers.get("Retry-After", ""), tries))
        raise ApiError(BUSY)

    def _ask(
        self, path: str, asked: Mapping[str, str], password: str
    ) -> tuple[int, httpx.Headers, bytes]:
        more = {"X-FS-ENCRYPTION-PASSWORD": password} if password else {}
        whole, until = bytearray(), self._steady() + self._pace.whole
        with self._client.stream("GET", path, params=dict(asked), headers=more) as answer:
            for some in answer.iter_bytes(65_536):
                whole += some
                if len(whole) > self._pace.largest:
                    raise TooLargeError(LARGE, lasting=True)
                if self._steady() > until:
                    raise ApiError(SILENT)
        return answer.status_code, answer.headers, bytes(whole)

    def _take_turn(self) -> None:
        now = self._steady()
        self._allowed = min(
            self._pace.burst, self._allowed + (now - self._counted_at) / self._pace.every
        )
        self._counted_at = now
        if self._allowed < 1 and self._rest((1 - self._allowed) * self._pace.every):
            raise StoppedError
        self._allowed -= 1

    def _pause(self, seconds: float) -> None:
        log.formstack_busy(seconds)
        if self._rest(seconds):
            raise StoppedError

    def _seconds(self, told: str, tries: int) -> float:
        """Return how long a 429 asks us to wait (RFC 9110 §10.2.3): seconds or a date.

        Ours where it does not say.
        """
        if re.fullmatch(r"[0-9]{1,9}", told.strip()):
            wanted = float(told)
        else:
            wanted = _until(told, self._clock()) or self._pace.slow * 2.0 ** (tries - 1)
        if wanted > self._pace.longest:
            raise ApiError(BUSY)
        return wanted


def _until(told: str, now: datetime) -> float:
    try:
        date = parsedate_to_datetime(told)
    except ValueError:
        return 0.0
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - now).total_seconds())


def _understood(status: int, body: bytes) -> object:
    """The JSON of a 200, or the refusal in our words."""
    if status != httpx.codes.OK and _undecrypted(body[:4096].decode(errors="replace")):
        raise ApiError(ENCRYPTED, lasting=True)
    if status in REFUSALS:
        raise ApiError(REFUSALS[status], lasting=True)
    if httpx.codes.is_redirect(status):
        raise ApiError(REDIRECT, lasting=True)
    if httpx.codes.is_server_error(status):
        raise ApiError(ILL)
    if status != httpx.codes.OK:
        raise ApiError(GARBAGE, lasting=True)
    try:
        told: object = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise ApiError(GARBAGE) from None  # a proxy's page, most likely: it passes
    if isinstance(told, dict) and _undecrypted(str(told.get("error", ""))):
        raise ApiError(ENCRYPTED, lasting=True)
    return told


def _undecrypted(said: str) -> bool:
    return "decrypt" in said.casefold() or "incorrect password" in said.casefold()


def _list(told: object, *names: str) -> list[object] | None:
    found = (
        (told[name] for name in names if isinstance(told.get(name), list))
        if isinstance(told, dict)
        else ()
    )
    return next(iter(found), None)


def _count(told: Mapping[str, object], *names: str) -> int:
    """A count under one of these names, at the top or beside the list; 0 if it is not told."""
    beside = (inner for name in ("pagination", "meta") if isinstance(inner := told.get(name), dict))
    for where in (told, *beside):
        for name in names:
            if re.fullmatch(r"[0-9]{1,9}", said := str(where.get(name, ""))):
                return int(said)
    return 0
