"""Pull submissions that no webhook brought from Formstack's API, and hand them to the intake."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event

from ingest.formstack.api import (
    PAGE_SIZES,
    SUBMISSION_WITHOUT_NUMBER,
    ApiError,
    FormstackApi,
    StoppedError,
    SubmissionPage,
    TooLargeError,
)
from ingest.formstack.checkpoints import ALL_FORMS, FormCheckpoints, StoredSubmissions
from ingest.formstack.submission import (
    NUMBER_PATTERN,
    Submission,
    SubmissionField,
    render_webhook_body,
)
from ingest.intake import Accept, Arrival, Transport
from parsers.item import Format
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.operations.item_faults import ItemFaults, describe_unexpected_error
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.settings.forms import Form

# listed again each time: submissions that Formstack shows late are found, too
OVERLAP = timedelta(hours=24)
# times a shrinking list is read again, since a submission may have slipped to an earlier page
LIST_ATTEMPTS = 3
RETRY_SECONDS = 60.0  # after a fault that may pass, doubled up to the usual pause
STANDBY_SECONDS = 1.0
NO_FORM = (
    "no form is known to pull: list them as [form.ID] in intake.toml, or send one by the webhook"
)


@dataclass
class PullCounts:
    """Submissions seen at Formstack, and how many of them were new."""

    seen: int = 0
    new: int = 0


def _ignore_progress(done: int, of: int) -> None:
    """Report no progress."""
    del done, of


class Backfill:
    """Pulls forms into the intake.

    `is_assigned` returns whether this process is the one that pulls now.
    """

    def __init__(
        self,
        context: AppContext,
        accept: Accept,
        api: FormstackApi,
        is_assigned: Callable[[], bool] = lambda: True,
    ) -> None:
        self._context, self._accept, self._api = context, accept, api
        self._is_assigned = is_assigned
        self._checkpoints = FormCheckpoints(context.store)
        self._stored = StoredSubmissions(context.store)

    def list_forms(self) -> list[str]:
        """Return the forms to pull: those of the settings and those the webhook has brought.

        Not those switched off.

        Never every form that the token may see: an account also holds forms of other desks, whose
        senders must not get mail from us.
        """
        settings = self._context.settings.form
        numbers = {*settings, *self._stored.list_forms()}
        return sorted(
            f
            for f in numbers
            if NUMBER_PATTERN.fullmatch(f) and (f not in settings or settings[f].backfill)
        )

    def run(self, stop: Event) -> None:
        """Pull every form each INTAKE_BACKFILL_SECONDS until `stop` is set.

        Sooner after a fault that may pass.
        """
        failures = 0
        while not stop.is_set():
            if not self._is_assigned():
                stop.wait(STANDBY_SECONDS)
                continue
            try:
                failures = 0 if self.pull_all() else failures + 1
            except StoppedError:
                continue
            except Exception as error:  # noqa: BLE001  # the top loop: no fault may end the reader
                failures += 1
                log.fault("backfill", error)
            usual = self._context.settings.backfill_seconds
            backoff = Backoff(timedelta(seconds=RETRY_SECONDS), timedelta(seconds=usual))
            stop.wait(backoff.seconds(failures) if failures else usual)

    def pull_all(self) -> bool:
        """Pull every form once; return False when something failed that may pass by itself."""
        forms, all_well = self.list_forms(), True
        self._checkpoints.clear_faults(except_forms=forms)
        if not forms:
            self._checkpoints.record_failure(
                ALL_FORMS, NO_FORM, self._context.clock(), lasting=True
            )
        for form in forms:
            try:
                self.pull_form(form)
            except ApiError as error:
                all_well = all_well and error.is_permanent
            except (StoppedError, *DATABASE_UNAVAILABLE):
                raise
            # a fault of one form must not keep the others from being pulled
            except Exception as error:  # noqa: BLE001
                log.fault("backfill", error)
                self._checkpoints.record_failure(
                    form, describe_unexpected_error(error), self._context.clock(), lasting=False
                )
                all_well = False
        return all_well

    def pull_form(
        self,
        form: str,
        since: datetime | None = None,
        step: Callable[[int, int], None] = _ignore_progress,
    ) -> PullCounts:
        """Pull a form's submissions sent since the last one seen minus a day, or since `since`.

        `step` is called with how many submissions were looked at, and of how many. Raises ApiError,
        which is then recorded in the form's row; StoppedError; SQLAlchemyError or OSError when
        something cannot be stored: it is pulled again.
        """
        seen = self._checkpoints.load_seen_until(form, self._context.clock())
        pull = _Pull(form, since or seen - OVERLAP, step)
        # else submissions between the checkpoint and `since` are not looked at
        pull.is_complete = pull.since <= seen
        faults = ItemFaults(self._context.store, self._context.clock, Transport.BACKFILL, form)
        try:
            self._read_list(pull)
            faults.delete_others(pull.failures)
        except ApiError as error:
            self._checkpoints.record_failure(
                form, error.message, self._context.clock(), lasting=error.is_permanent
            )
            log.backfill_failed(form, error.message)
            raise
        finally:
            for number, reason in pull.failures.items():
                faults.record(number, reason)
        if pull.is_complete:
            self._advance(pull, pull.newest)
        self._checkpoints.record_success(form, self._context.clock())
        log.backfill_finished(form, looked=pull.counts.seen, new=pull.counts.new)
        return pull.counts

    def _read_list(self, pull: "_Pull") -> None:
        """Read the whole list of submissions.

        Again while it shrinks meanwhile, in smaller pages where one is too large.
        """
        sizes = iter(PAGE_SIZES)
        size = next(sizes)
        for _ in range(LIST_ATTEMPTS + len(PAGE_SIZES)):
            try:
                if not self._read_pages(pull, size):
                    break
            except TooLargeError:
                size = next(sizes, 0)
                if not size:
                    raise
        if pull.without_number:
            raise ApiError(SUBMISSION_WITHOUT_NUMBER, is_permanent=True)

    def _read_pages(self, pull: "_Pull", size: int) -> bool:
        """Read every page once; return whether the list became shorter meanwhile.

        Something may then have slipped to a page that was read before.
        """
        total, shrank = 0, False
        pull.is_in_order, pull.previous = pull.is_complete, None
        for page in self._iter_pages(pull, size):
            shrank, total = shrank or page.total < total, page.total
            self._store_page(pull, page)
            pull.step(pull.counts.seen, max(page.total, pull.counts.seen))
        return shrank

    def _iter_pages(self, pull: "_Pull", size: int) -> Iterator[SubmissionPage]:
        """Yield the pages; one that repeats earlier ones ends a list without page numbers."""
        seen_numbers, number = set[str](), 0
        while True:
            number += 1
            page = self._api.list_submissions(
                pull.form, pull.since, number, size, self._get_password(pull.form)
            )
            fresh = {one.number for one in page.submissions} - seen_numbers
            pull.without_number += page.without_number
            if fresh:
                yield page
            seen_numbers |= fresh
            if not fresh or number == page.pages:
                return

    def _store_page(self, pull: "_Pull", page: SubmissionPage) -> None:
        """Store what is new on a page, then record how far the form has been pulled."""
        if not self._is_assigned():
            raise StoppedError
        references = [f"{pull.form}/{one.number}" for one in page.submissions]
        known_references = self._stored.find_known(references)
        for one, reference in zip(page.submissions, references, strict=True):
            if one.number not in pull.seen_numbers:
                pull.seen_numbers.add(one.number)
                pull.counts.seen += 1
                if reference not in known_references and self._try_store(pull, one, reference):
                    pull.counts.new += 1
        self._advance_in_order(pull, page)

    def _advance_in_order(self, pull: "_Pull", page: SubmissionPage) -> None:
        """Record the page before this one as done.

        Only this page shows that the list is ordered by time up to there.
        """
        times = [one.at for one in page.submissions if one.at]
        previous = pull.previous
        chain = [previous, *times] if previous else times
        if chain != sorted(chain) or len(times) < len(page.submissions):
            pull.is_in_order = False
        if pull.is_in_order and previous:
            self._advance(pull, previous)
        if times:
            pull.previous = times[-1]
            pull.newest = max([pull.newest, *times] if pull.newest else times)

    def _advance(self, pull: "_Pull", until: datetime | None) -> None:
        """Record that everything sent before `until` is stored."""
        if until is not None:
            # a time in the future (a wrong clock) must not make us skip submissions to come
            self._checkpoints.advance(pull.form, min(until, self._context.clock()))

    def _try_store(self, pull: "_Pull", one: Submission, reference: str) -> bool:
        """Store a submission; return False when that failed because of the submission itself.

        `intake status` names it then, those behind it are stored, and the form's checkpoint stays
        where it is, so that the submission is pulled again each time.
        """
        try:
            self._store(pull, one, reference)
        except TooLargeError as error:
            reason = error.message
        except (ApiError, StoppedError, *DATABASE_UNAVAILABLE, OSError):
            # every other submission would fail, too
            raise
        except Exception as error:  # noqa: BLE001  # a fault of one submission
            log.fault("backfill", error)
            reason = describe_unexpected_error(error)
        else:
            return True
        pull.failures[one.number] = reason
        pull.is_complete = pull.is_in_order = False
        return False

    def _store(self, pull: "_Pull", one: Submission, reference: str) -> None:
        """Fetch what the list left out, and hand the submission to the intake."""
        if one.answers is None:
            one = self._api.get_submission(one.number, self._get_password(pull.form))
        if pull.fields is None and any(not own.label for own, _ in one.answers or ()):
            pull.fields = self._load_fields(pull.form)
        envelope: dict[str, object] = {"form": pull.form, "submission": one.number}
        if one.at is not None:
            envelope["submitted_at"] = one.at.isoformat()
        body = render_webhook_body(
            pull.form, one, pull.fields or {}, by_number=self._get_form_settings(pull.form).fields
        )
        self._accept(
            Arrival(
                transport=Transport.BACKFILL,
                format=Format.FORMSTACK,
                raw=body,
                envelope=envelope,
                reference=reference,
            )
        )

    def _load_fields(self, form: str) -> dict[str, SubmissionField]:
        """Return the form's fields, {} where the token may not read them.

        A ticket with numbers for labels is better than none.
        """
        try:
            return self._api.list_fields(form)
        except ApiError as error:
            if not error.is_permanent:
                raise
            return {}

    def _get_password(self, form: str) -> str:
        """Return the form's encryption password, "" without one."""
        return self._get_form_settings(form).encryption_password.get_secret_value()

    def _get_form_settings(self, form: str) -> Form:
        """Return the settings of a form."""
        return self._context.settings.form.get(form, Form())


@dataclass
class _Pull:
    """The state of one pull of a form."""

    form: str
    since: datetime
    step: Callable[[int, int], None]
    counts: PullCounts = field(default_factory=PullCounts)
    seen_numbers: set[str] = field(default_factory=set)
    # fetched once, when an answer lacks its label
    fields: dict[str, SubmissionField] | None = None
    # submissions that could not be stored, and why
    failures: dict[str, str] = field(default_factory=dict)
    without_number: int = 0  # entries that lack a submission number
    is_complete: bool = True  # nothing between the checkpoint and `since` is left out
    is_in_order: bool = True  # ordered by time so far
    previous: datetime | None = None  # newest time on the page before
    newest: datetime | None = None
