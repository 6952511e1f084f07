"""Submissions that no webhook brought.

Pulled from Formstack's API, compared by number, handed to the one door.
"""

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

OVERLAP = timedelta(
    hours=24
)  # looked at again each time: what shows late at Formstack is found all the same
# times a list is read that shrinks while it is read: what slipped to an earlier page is found
LIST_ATTEMPTS = 3
RETRY_SECONDS = 60.0  # after a fault that may pass, doubled up to the usual pause
STANDBY_SECONDS = 1.0
NO_FORM = (
    "no form is known to pull: list them as [form.ID] in intake.toml, or send one by the webhook"
)


@dataclass
class PullCounts:
    """Submissions looked at, and those that were not here."""

    seen: int = 0
    new: int = 0


def _silent(done: int, of: int) -> None:
    del done, of


class Backfill:
    """Pulls forms into the intake; `mine` says whether this process is the one that does so now."""

    def __init__(
        self,
        context: AppContext,
        accept: Accept,
        api: FormstackApi,
        mine: Callable[[], bool] = lambda: True,
    ) -> None:
        self._context, self._accept, self._api, self._mine = context, accept, api, mine
        self._marks, self._here = FormCheckpoints(context.store), StoredSubmissions(context.store)

    def list_forms(self) -> list[str]:
        """Those of the settings, and those that the webhook has brought something from.

        Not those switched off.

        Never all that the token may see: an account holds forms of other desks, whose senders must
        hear nothing of us.
        """
        told = self._context.settings.form
        found = {*told, *self._here.list_forms()}
        return sorted(
            f for f in found if NUMBER_PATTERN.fullmatch(f) and (f not in told or told[f].backfill)
        )

    def run(self, stop: Event) -> None:
        """Pull every form each INTAKE_BACKFILL_SECONDS, sooner after a fault that may pass.

        Until told to stop.
        """
        failures = 0
        while not stop.is_set():
            if not self._mine():
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
        """Pull every form once.

        Whether all went well, or it is for a person to mend what did not.
        """
        forms, well = self.list_forms(), True
        self._marks.clear_faults(but=forms)
        if not forms:
            self._marks.record_failure(ALL_FORMS, NO_FORM, self._context.clock(), lasting=True)
        for form in forms:
            try:
                self.pull_form(form)
            except ApiError as error:
                well = well and error.lasting
            except (StoppedError, *DATABASE_UNAVAILABLE):
                raise
            # whatever one form does, the others are pulled
            except Exception as error:  # noqa: BLE001
                log.fault("backfill", error)
                self._marks.record_failure(
                    form, describe_unexpected_error(error), self._context.clock(), lasting=False
                )
                well = False
        return well

    def pull_form(
        self, form: str, since: datetime | None = None, step: Callable[[int, int], None] = _silent
    ) -> PullCounts:
        """Have everything of a form here that was sent since the last one seen minus a day.

        Or at or after `since`.

        `step` hears how many submissions were looked at, and of how many. Raises ApiError, which
        stands in the form's row then; StoppedError; SQLAlchemyError or OSError when something
        cannot be stored: it is pulled again.
        """
        seen = self._marks.load_seen_until(form, self._context.clock())
        look = _Look(form, since or seen - OVERLAP, step)
        look.whole = (
            look.since <= seen
        )  # else there is a gap between what was seen and what is looked at
        faults = ItemFaults(self._context.store, self._context.clock, Transport.BACKFILL, form)
        try:
            self._look(look)
            faults.delete_others(look.failed)
        except ApiError as error:
            self._marks.record_failure(
                form, error.message, self._context.clock(), lasting=error.lasting
            )
            log.backfill_failed(form, error.message)
            raise
        finally:
            for number, reason in look.failed.items():
                faults.record(number, reason)
        if look.whole:
            self._advance(look, look.newest)
        self._marks.record_success(form, self._context.clock())
        log.backfill_finished(form, looked=look.tally.seen, new=look.tally.new)
        return look.tally

    def _look(self, look: "_Look") -> None:
        """Read the whole list, again while it shrinks meanwhile.

        In smaller pages where one is too large.
        """
        sizes = iter(PAGE_SIZES)
        size = next(sizes)
        for _ in range(LIST_ATTEMPTS + len(PAGE_SIZES)):
            try:
                if not self._through(look, size):
                    break
            except TooLargeError:
                size = next(sizes, 0)
                if not size:
                    raise
        if look.numberless:
            raise ApiError(SUBMISSION_WITHOUT_NUMBER, lasting=True)

    def _through(self, look: "_Look", size: int) -> bool:
        """Read every page once.

        Whether the list became shorter meanwhile, so that something may have slipped by.
        """
        total, shrank = 0, False
        look.in_order, look.last = look.whole, None
        for page in self._pages(look, size):
            shrank, total = shrank or page.total < total, page.total
            self._take(look, page)
            look.step(look.tally.seen, max(page.total, look.tally.seen))
        return shrank

    def _pages(self, look: "_Look", size: int) -> Iterator[SubmissionPage]:
        """Pages until the last one.

        One that repeats what went before is the end of a list without page numbers.
        """
        seen, number = set[str](), 0
        while True:
            number += 1
            page = self._api.list_submissions(
                look.form, look.since, number, size, self._password(look.form)
            )
            fresh = {one.number for one in page.submissions} - seen
            look.numberless += page.without_number
            if fresh:
                yield page
            seen |= fresh
            if not fresh or number == page.pages:
                return

    def _take(self, look: "_Look", page: SubmissionPage) -> None:
        """Store what is not here, then put down how far that is."""
        if not self._mine():
            raise StoppedError
        references = [f"{look.form}/{one.number}" for one in page.submissions]
        known = self._here.find_known(references)
        for one, reference in zip(page.submissions, references, strict=True):
            if one.number not in look.seen:
                look.seen.add(one.number)
                look.tally.seen += 1
                if reference not in known and self._stored(look, one, reference):
                    look.tally.new += 1
        self._progress(look, page)

    def _progress(self, look: "_Look", page: SubmissionPage) -> None:
        """Record the page before this one as done.

        Only once this page has shown that the list is in the order of time.
        """
        times = [one.at for one in page.submissions if one.at]
        before = look.last
        chain = [*([before] if before else []), *times]
        look.in_order = (
            look.in_order and chain == sorted(chain) and len(times) == len(page.submissions)
        )
        if look.in_order and before:
            self._advance(look, before)
        if times:
            look.last, look.newest = (
                times[-1],
                max([*times, *([look.newest] if look.newest else [])]),
            )

    def _advance(self, look: "_Look", until: datetime | None) -> None:
        if (
            until is not None
        ):  # a time in the future is an odd clock's: it must not make us skip what comes
            self._marks.advance(look.form, min(until, self._context.clock()))

    def _stored(self, look: "_Look", one: Submission, reference: str) -> bool:
        """Store a submission.

        One that cannot be stored is named by `intake status`, and those behind it are stored.

        The form's mark stays where it is then, so that the submission is pulled again each time.
        """
        try:
            self._store(look, one, reference)
        except TooLargeError as error:
            reason = error.message
        except (
            ApiError,
            StoppedError,
            *DATABASE_UNAVAILABLE,
            OSError,
        ):  # so it would be with the next one
            raise
        except Exception as error:  # noqa: BLE001  # whatever one submission does stays with it
            log.fault("backfill", error)
            reason = describe_unexpected_error(error)
        else:
            return True
        look.failed[one.number] = reason
        look.whole = look.in_order = False
        return False

    def _store(self, look: "_Look", one: Submission, reference: str) -> None:
        if one.answers is None:
            one = self._api.get_submission(one.number, self._password(look.form))
        if look.fields is None and any(not own.label for own, _ in one.answers or ()):
            look.fields = self._fields(look.form)
        told: dict[str, object] = {"form": look.form, "submission": one.number}
        if one.at is not None:
            told["submitted_at"] = one.at.isoformat()
        body = render_webhook_body(
            look.form, one, look.fields or {}, by_number=self._told(look.form).fields
        )
        self._accept(
            Arrival(
                transport=Transport.BACKFILL,
                format=Format.FORMSTACK,
                raw=body,
                envelope=told,
                reference=reference,
            )
        )

    def _fields(self, form: str) -> dict[str, SubmissionField]:
        """The form's fields; none where the token may not read them.

        A ticket with numbers for labels is a ticket.
        """
        try:
            return self._api.list_fields(form)
        except ApiError as error:
            if not error.lasting:
                raise
            return {}

    def _password(self, form: str) -> str:
        return self._told(form).encryption_password.get_secret_value()

    def _told(self, form: str) -> Form:
        return self._context.settings.form.get(form, Form())


@dataclass
class _Look:
    """One look at a form: where it begins, and what it has come to."""

    form: str
    since: datetime
    step: Callable[[int, int], None]
    tally: PullCounts = field(default_factory=PullCounts)
    seen: set[str] = field(default_factory=set)
    fields: dict[str, SubmissionField] | None = (
        None  # asked for once, where answers come without their labels
    )
    failed: dict[str, str] = field(
        default_factory=dict
    )  # submissions that could not be stored, and why
    numberless: int = 0
    whole: bool = True  # nothing lies between what was seen before and where this look begins
    in_order: bool = True  # as far as the pages tell
    last: datetime | None = None  # of the page before
    newest: datetime | None = None
