"""Formstack's REST API as its client sees it.

Both its bases, its limits, and its refusals in words of ours.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from ingest.formstack import submission
from ingest.formstack.eastern import format_wall_time_before
from ingest.formstack.submission import NUMBER_PATTERN, Submission, SubmissionField
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.runtime.clock import Clock
from workflow.settings.settings import Settings

PAGE_SIZES = (
    100,
    10,
    1,
)  # submissions a page: 100 is the most there is, fewer where a page is too large
MAX_FORMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """How we treat the API: seconds, octets and calls; 14,400 calls a day and token are allowed."""

    silence_seconds: float = 30.0  # of silence
    answer_seconds: float = 120.0  # for one answer
    max_octets: int = 32 * 1024 * 1024  # octets of one
    burst: int = 2_000  # calls at once, then one each `every` seconds: 12,800 on the busiest day
    seconds_per_call: float = 8.0
    first_pause: float = 5.0  # first pause after a 429 that names none, doubling
    max_pause: float = 3600.0  # pause that is waited out
    attempts: int = 6  # of one call

    @property
    def backoff(self) -> Backoff:
        """The pauses after replies 429 that name no time."""
        return Backoff(timedelta(seconds=self.first_pause), timedelta(seconds=self.max_pause))


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
NOT_DECRYPTED = "Formstack cannot decrypt the submissions: see encryption_password of [form.ID]"
REDIRECTED = (
    "the API sends us elsewhere, which is not followed with a token: see INTAKE_FORMSTACK_API"
)
UNEXPECTED_ANSWER = "the API's answer is not what Formstack documents: see INTAKE_FORMSTACK_API"
SUBMISSION_WITHOUT_NUMBER = "the API lists a submission without a number"
TOO_LARGE = "the API's answer is too large"
RATE_LIMITED = "Formstack asks us to slow down"
TIMED_OUT = "Formstack does not answer in time"
UNREACHABLE = "Formstack cannot be reached"
SERVER_FAULT = "Formstack has a fault of its own"


class ApiError(Exception):
    """The API did not give what was asked of it; the text is out of our own words.

    `lasting`: it will not pass by itself, a person has to do something.
    """

    def __init__(self, words: str, *, lasting: bool = False) -> None:
        super().__init__(words)
        self.message, self.lasting = words, lasting


class TooLargeError(ApiError):
    """An answer is larger than we take: ask for fewer at once."""


class StoppedError(Exception):
    """We were told to stop while we waited to be allowed the next call."""


@dataclass(frozen=True, slots=True)
class SubmissionPage:
    """Some submissions of a form, the oldest first.

    How many there are in all and on how many pages, 0 if not told.
    """

    submissions: tuple[Submission, ...]
    without_number: int
    total: int
    pages: int


class FormstackApi:
    """The API under one token; used by one thread.

    `rest` waits for so many seconds and is true when we are to stop. Every call raises ApiError, or
    StoppedError.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        rest: Callable[[float], bool],
        pace: ApiLimits | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pace = pace or ApiLimits()
        self._clock, self._rest, self._steady = clock, rest, steady
        self._dialect = (
            DATED if re.search(r"/v20\d\d\b", urlsplit(settings.formstack_api).path) else V2
        )
        self._allowed, self._counted_at = float(self._pace.burst), steady()
        headers = {"Authorization": f"Bearer {settings.formstack_token.get_secret_value()}"}
        self._client = httpx.Client(
            base_url=settings.formstack_api,
            headers={**headers, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=self._pace.silence_seconds,
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

    def list_submissions(
        self, form: str, since: datetime, number: int, size: int, password: str
    ) -> SubmissionPage:
        """Page `number`, from 1, of what was sent to a form at or after `since`.

        A little before it, too.
        """
        said = self._dialect
        asked = {
            said.page: str(number),
            said.size: str(size),
            said.since: format_wall_time_before(since),
            **said.listed,
        }
        told = self._get(said.submissions.format(form), asked, password)
        listed = _list(told, "submissions", "data")
        if listed is None or not isinstance(told, dict):
            raise ApiError(UNEXPECTED_ANSWER, lasting=True)
        read = [submission.parse_submission(one) for one in listed]
        found = tuple(one for one in read if one is not None)
        return SubmissionPage(
            found,
            len(read) - len(found),
            _count(told, "total"),
            _count(told, "pages", "totalPages"),
        )

    def get_submission(self, number: str, password: str) -> Submission:
        """One submission with its answers."""
        found = submission.parse_submission(
            self._get(self._dialect.one.format(number), {}, password)
        )
        if found is None or found.number != number or found.answers is None:
            raise ApiError(UNEXPECTED_ANSWER, lasting=True)
        return found

    def list_fields(self, form: str) -> dict[str, SubmissionField]:
        """The fields of a form by their number."""
        told = self._get(self._dialect.fields.format(form), dict(self._dialect.about), "")
        listed = told if isinstance(told, list) else _list(told, "fields")
        if listed is None:
            raise ApiError(UNEXPECTED_ANSWER, lasting=True)
        return {found.number: found for one in listed if (found := submission.parse_field(one))}

    def list_forms(self) -> Iterator[tuple[str, str]]:
        """Number and name of every form that the token may see."""
        said, seen, number = self._dialect, set[str](), 0
        while len(seen) < MAX_FORMS:
            number += 1
            told = self._get(
                said.forms, {said.page: str(number), said.size: str(PAGE_SIZES[0])}, ""
            )
            listed = _list(told, "forms", "data")
            if listed is None:
                raise ApiError(UNEXPECTED_ANSWER, lasting=True)
            named = {
                str(one.get("id", "")): str(one.get("name", ""))
                for one in listed
                if isinstance(one, dict)
            }
            fresh = {
                key: name
                for key, name in named.items()
                if NUMBER_PATTERN.fullmatch(key) and key not in seen
            }
            yield from fresh.items()
            seen |= fresh.keys()
            if not fresh:  # a list that ignores the page number would never end
                return

    # -- one call ----

    def _get(self, path: str, asked: Mapping[str, str], password: str) -> object:
        """The JSON of an answer, numbers as text; waits for its turn, and as long as a 429 says."""
        for tries in range(1, self._pace.attempts + 1):
            self._take_turn()
            try:
                status, headers, body = self._ask(path, asked, password)
            except httpx.TimeoutException:
                raise ApiError(TIMED_OUT) from None
            except httpx.DecodingError:
                raise ApiError(UNEXPECTED_ANSWER) from None
            except httpx.HTTPError:
                raise ApiError(UNREACHABLE) from None
            if status != httpx.codes.TOO_MANY_REQUESTS:
                return _understood(status, body)
            if tries < self._pace.attempts:
                self._pause(self._seconds(headers.get("Retry-After", ""), tries))
        raise ApiError(RATE_LIMITED)

    def _ask(
        self, path: str, asked: Mapping[str, str], password: str
    ) -> tuple[int, httpx.Headers, bytes]:
        more = {"X-FS-ENCRYPTION-PASSWORD": password} if password else {}
        whole, until = bytearray(), self._steady() + self._pace.answer_seconds
        with self._client.stream("GET", path, params=dict(asked), headers=more) as answer:
            for some in answer.iter_bytes(65_536):
                whole += some
                if len(whole) > self._pace.max_octets:
                    raise TooLargeError(TOO_LARGE, lasting=True)
                if self._steady() > until:
                    raise ApiError(TIMED_OUT)
        return answer.status_code, answer.headers, bytes(whole)

    def _take_turn(self) -> None:
        now = self._steady()
        self._allowed = min(
            self._pace.burst, self._allowed + (now - self._counted_at) / self._pace.seconds_per_call
        )
        self._counted_at = now
        if self._allowed < 1 and self._rest((1 - self._allowed) * self._pace.seconds_per_call):
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
            wanted = _until(told, self._clock()) or self._pace.backoff.seconds(tries)
        if wanted > self._pace.max_pause:
            raise ApiError(RATE_LIMITED)
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
        raise ApiError(NOT_DECRYPTED, lasting=True)
    if status in REFUSALS:
        raise ApiError(REFUSALS[status], lasting=True)
    if httpx.codes.is_redirect(status):
        raise ApiError(REDIRECTED, lasting=True)
    if httpx.codes.is_server_error(status):
        raise ApiError(SERVER_FAULT)
    if status != httpx.codes.OK:
        raise ApiError(UNEXPECTED_ANSWER, lasting=True)
    try:
        told: object = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise ApiError(UNEXPECTED_ANSWER) from None  # a proxy's page, most likely: it passes
    if isinstance(told, dict) and _undecrypted(str(told.get("error", ""))):
        raise ApiError(NOT_DECRYPTED, lasting=True)
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
