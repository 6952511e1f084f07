"""Client of Formstack's REST API: both its versions, its rate limits, its refusals in our words."""

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
from ingest.formstack.submission import (
    NUMBER_PATTERN,
    Submission,
    SubmissionField,
    format_wall_time_before,
)
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.runtime.clock import Clock
from workflow.settings.settings import Settings

# submissions a page: 100 is Formstack's maximum, fewer where an answer is too large
PAGE_SIZES = (100, 10, 1)
MAX_FORMS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiLimits:
    """Limits of our calls: their number, the size of an answer, the time we wait.

    In calls, octets and seconds. Formstack allows 14,400 calls a day and token.
    """

    silence_seconds: float = 30.0
    answer_seconds: float = 120.0
    max_octets: int = 32 * 1024 * 1024  # of one answer
    burst: int = 2_000  # calls at once, then one each `seconds_per_call`: at most 12,800 a day
    seconds_per_call: float = 8.0
    first_pause: float = 5.0  # after a 429 without Retry-After, doubling
    max_pause: float = 3600.0  # a longer one ends the call
    attempts: int = 6

    @property
    def backoff(self) -> Backoff:
        """The pauses after replies 429 that name no time."""
        return Backoff(timedelta(seconds=self.first_pause), timedelta(seconds=self.max_pause))


@dataclass(frozen=True, slots=True)
class _Dialect:
    """Paths and parameters of one version of the API."""

    submissions: str
    one: str
    fields: str
    forms: str
    page: str
    size: str
    since: str
    list_parameters: Mapping[str, str]  # further parameters of a list of submissions
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

# -- error messages ----

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
    """The API did not answer a call as it should; the text is in fixed words of ours.

    `is_permanent`: it will not pass by itself, a person has to do something.
    """

    def __init__(self, message: str, *, is_permanent: bool = False) -> None:
        super().__init__(message)
        self.message, self.is_permanent = message, is_permanent


class TooLargeError(ApiError):
    """An answer is larger than we take: ask for fewer submissions a page."""


class StoppedError(Exception):
    """The process is to stop while a call waits for its turn."""


@dataclass(frozen=True, slots=True)
class SubmissionPage:
    """A page of a form's submissions, oldest first.

    `total` and `pages` are 0 where the API does not give them; `without_number` counts entries that
    lack a submission number.
    """

    submissions: tuple[Submission, ...]
    without_number: int
    total: int
    pages: int


class FormstackApi:
    """The API under one token; for use by one thread.

    `rest` waits for so many seconds and returns True when the process is to stop. Every call raises
    ApiError, or StoppedError.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        wait: Callable[[float], bool],
        limits: ApiLimits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or ApiLimits()
        self._clock, self._wait, self._monotonic = clock, wait, monotonic
        self._dialect = (
            DATED if re.search(r"/v20\d\d\b", urlsplit(settings.formstack_api).path) else V2
        )
        self._tokens, self._refilled_at = float(self._limits.burst), monotonic()
        headers = {"Authorization": f"Bearer {settings.formstack_token.get_secret_value()}"}
        self._client = httpx.Client(
            base_url=settings.formstack_api,
            headers={**headers, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=self._limits.silence_seconds,
            follow_redirects=False,  # a redirect would send the token to another host
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
        """Return page `number`, from 1, of a form's submissions.

        Those sent at or after `since`, and some sent shortly before.
        """
        dialect = self._dialect
        parameters = {
            dialect.page: str(number),
            dialect.size: str(size),
            dialect.since: format_wall_time_before(since),
            **dialect.list_parameters,
        }
        answer = self._get(dialect.submissions.format(form), parameters, password)
        entries = _find_list(answer, "submissions", "data")
        if entries is None or not isinstance(answer, dict):
            raise ApiError(UNEXPECTED_ANSWER, is_permanent=True)
        results = [submission.parse_submission(one) for one in entries]
        submissions = tuple(one for one in results if one is not None)
        return SubmissionPage(
            submissions,
            len(results) - len(submissions),
            _find_count(answer, "total"),
            _find_count(answer, "pages", "totalPages"),
        )

    def get_submission(self, number: str, password: str) -> Submission:
        """Return one submission with its answers."""
        result = submission.parse_submission(
            self._get(self._dialect.one.format(number), {}, password)
        )
        if result is None or result.number != number or result.answers is None:
            raise ApiError(UNEXPECTED_ANSWER, is_permanent=True)
        return result

    def list_fields(self, form: str) -> dict[str, SubmissionField]:
        """Return the fields of a form by their number."""
        answer = self._get(self._dialect.fields.format(form), dict(self._dialect.about), "")
        entries = answer if isinstance(answer, list) else _find_list(answer, "fields")
        if entries is None:
            raise ApiError(UNEXPECTED_ANSWER, is_permanent=True)
        return {parsed.number: parsed for one in entries if (parsed := submission.parse_field(one))}

    def list_forms(self) -> Iterator[tuple[str, str]]:
        """Yield number and name of every form that the token may see."""
        dialect, seen_ids, number = self._dialect, set[str](), 0
        while len(seen_ids) < MAX_FORMS:
            number += 1
            answer = self._get(
                dialect.forms, {dialect.page: str(number), dialect.size: str(PAGE_SIZES[0])}, ""
            )
            entries = _find_list(answer, "forms", "data")
            if entries is None:
                raise ApiError(UNEXPECTED_ANSWER, is_permanent=True)
            names = {
                str(one.get("id", "")): str(one.get("name", ""))
                for one in entries
                if isinstance(one, dict)
            }
            fresh = {
                key: name
                for key, name in names.items()
                if NUMBER_PATTERN.fullmatch(key) and key not in seen_ids
            }
            yield from fresh.items()
            seen_ids |= fresh.keys()
            if not fresh:  # a list that ignores the page number would never end
                return

    # -- one call ----

    def _get(self, path: str, parameters: Mapping[str, str], password: str) -> object:
        """Return the JSON of an answer, with numbers as text.

        Waits for its turn, and after a 429 as long as it asks.
        """
        for tries in range(1, self._limits.attempts + 1):
            self._wait_for_turn()
            try:
                status, headers, body = self._call(path, parameters, password)
            except httpx.TimeoutException:
                raise ApiError(TIMED_OUT) from None
            except httpx.DecodingError:
                raise ApiError(UNEXPECTED_ANSWER) from None
            except httpx.HTTPError:
                raise ApiError(UNREACHABLE) from None
            if status != httpx.codes.TOO_MANY_REQUESTS:
                return _parse_answer(status, body)
            if tries < self._limits.attempts:
                self._pause(self._pause_seconds(headers.get("Retry-After", ""), tries))
        raise ApiError(RATE_LIMITED)

    def _call(
        self, path: str, parameters: Mapping[str, str], password: str
    ) -> tuple[int, httpx.Headers, bytes]:
        """Make one call; return status, headers and body. Raises ApiError and httpx.HTTPError."""
        headers = {"X-FS-ENCRYPTION-PASSWORD": password} if password else {}
        body, until = bytearray(), self._monotonic() + self._limits.answer_seconds
        with self._client.stream("GET", path, params=dict(parameters), headers=headers) as answer:
            for chunk in answer.iter_bytes(65_536):
                body += chunk
                if len(body) > self._limits.max_octets:
                    raise TooLargeError(TOO_LARGE, is_permanent=True)
                if self._monotonic() > until:
                    raise ApiError(TIMED_OUT)
        return answer.status_code, answer.headers, bytes(body)

    def _wait_for_turn(self) -> None:
        """Wait until the rate limit (a token bucket) allows another call. Raises StoppedError."""
        now = self._monotonic()
        self._tokens = min(
            self._limits.burst,
            self._tokens + (now - self._refilled_at) / self._limits.seconds_per_call,
        )
        self._refilled_at = now
        if self._tokens < 1 and self._wait((1 - self._tokens) * self._limits.seconds_per_call):
            raise StoppedError
        self._tokens -= 1

    def _pause(self, seconds: float) -> None:
        """Wait after a 429. Raises StoppedError."""
        log.formstack_busy(seconds)
        if self._wait(seconds):
            raise StoppedError

    def _pause_seconds(self, header: str, tries: int) -> float:
        """Return how long to wait after a 429 (RFC 9110 §10.2.3: seconds or a date).

        Without that header our own pause, doubling. Raises ApiError when it is longer than we wait.
        """
        if re.fullmatch(r"[0-9]{1,9}", header.strip()):
            seconds = float(header)
        else:
            own = self._limits.backoff.seconds(tries)
            seconds = _compute_seconds_until(header, self._clock()) or own
        if seconds > self._limits.max_pause:
            raise ApiError(RATE_LIMITED)
        return seconds


def _compute_seconds_until(header: str, now: datetime) -> float:
    """Return the seconds from `now` to an HTTP date, 0 when it is none or past."""
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())


def _parse_answer(status: int, body: bytes) -> object:
    """Return the JSON of a 200. Raises ApiError with the reason in our words for anything else."""
    if status != httpx.codes.OK and _is_decryption_error(body[:4096].decode(errors="replace")):
        raise ApiError(NOT_DECRYPTED, is_permanent=True)
    if status in REFUSALS:
        raise ApiError(REFUSALS[status], is_permanent=True)
    if httpx.codes.is_redirect(status):
        raise ApiError(REDIRECTED, is_permanent=True)
    if httpx.codes.is_server_error(status):
        raise ApiError(SERVER_FAULT)
    if status != httpx.codes.OK:
        raise ApiError(UNEXPECTED_ANSWER, is_permanent=True)
    try:
        answer: object = json.loads(body, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        raise ApiError(UNEXPECTED_ANSWER) from None  # a proxy's page, most likely: it passes
    if isinstance(answer, dict) and _is_decryption_error(str(answer.get("error", ""))):
        raise ApiError(NOT_DECRYPTED, is_permanent=True)
    return answer


def _is_decryption_error(text: str) -> bool:
    """Return whether a text says that the encryption password is wrong."""
    return "decrypt" in text.casefold() or "incorrect password" in text.casefold()


def _find_list(answer: object, *names: str) -> list[object] | None:
    """Return the list under the first of these names, or None."""
    lists = (
        (answer[name] for name in names if isinstance(answer.get(name), list))
        if isinstance(answer, dict)
        else ()
    )
    return next(iter(lists), None)


def _find_count(answer: Mapping[str, object], *names: str) -> int:
    """Return a count under one of these names, at the top or beside the list; 0 without any."""
    beside = (
        inner for name in ("pagination", "meta") if isinstance(inner := answer.get(name), dict)
    )
    for where in (answer, *beside):
        for name in names:
            if re.fullmatch(r"[0-9]{1,9}", text := str(where.get(name, ""))):
                return int(text)
    return 0
