"""Import of a CRM's tickets: with their stage, once, and without a mail to anybody."""

import csv
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO, StringIO
from threading import Event
from typing import Any

import pytest
from openpyxl import Workbook
from sqlalchemy import select

from ingest.crm_import import run
from ingest.crm_import.rows import Vocabulary
from ingest.crm_import.run import ImportReport, ImportRequest, preview_import, run_import
from ingest.intake import Intake
from parsers.item import ParseError
from tests.support.context import (
    START,
    HandClock,
    count_rows,
    create_company,
    create_staff,
    deliver,
    make_call_arrival,
    make_mail,
    open_ticket,
    reach,
    run_in_threads,
)
from tests.support.outgoing_mail import send_through
from tests.support.servers import Relay
from workflow.context import AppContext
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.errors import ActionNotAllowed
from workflow.imports.undo import undo_import
from workflow.mail import sender
from workflow.models.core import (
    AuditEntry,
    Company,
    Contact,
    LastSurvey,
    OutgoingMail,
    Task,
    Ticket,
)
from workflow.models.imports import Import, ImportRow
from workflow.models.states import RowOutcome, Status
from workflow.operations import sweep
from workflow.operations.ledger import compute_balance
from workflow.process import TICKET_NAME, Milestone, Stage

LABELS = (
    "Record ID",
    "Ticket name",
    "Ticket description",
    "Pipeline",
    "Ticket status",
    "Create date",
    "Close date",
    "Ticket owner",
    "Category",
    "Priority",
    "Source",
    "Associated Company",
    "Associated Contact",
    "Associated Contact emails",
    "Actions",
    "Resolution",
    "Our own field",
)
INTERNAL = (
    "hs_object_id",
    "subject",
    "content",
    "hs_pipeline",
    "hs_pipeline_stage",
    "createdate",
    "closed_date",
    "hubspot_owner_id",
    "hs_ticket_category",
    "hs_ticket_priority",
    "source_type",
    "associated_company",
    "associated_contact",
    "associated_contact_emails",
    "actions",
    "resolution",
    "our_own_field",
)


def make_row(number: int, stage: str = "4-In Progress", **fields: str) -> dict[str, str]:
    """A row of an export by label, spaces as underscores."""
    full = {
        "Record ID": str(10_000_000 + number),
        "Ticket name": f"Claim {number} denied",
        "Ticket status": stage,
        "Ticket description": f"Please look at claim {number}",
        "Create date": "2025-11-03 09:30",
        "Category": "BILLING_ISSUE",
        "Associated Company": "Acme Clinic",
        "Associated Contact": "Jo Doe",
        "Associated Contact emails": "jo@acme.test",
        "Our own field": "kept",
    }
    by_word = {label.casefold().replace(" ", "_"): label for label in LABELS}
    return full | {by_word[name]: value for name, value in fields.items()}


def write_csv(rows: Sequence[dict[str, str]], heading: Sequence[str] = LABELS, **how: Any) -> bytes:
    out = StringIO()
    writer = csv.writer(out, **how)
    writer.writerow(heading)
    writer.writerows([row.get(label, "") for label in LABELS] for row in rows)
    return out.getvalue().encode()


def write_xlsx(rows: Sequence[dict[str, Any]]) -> bytes:
    book, out = Workbook(), BytesIO()
    sheet = book.active
    assert sheet is not None
    sheet.append(LABELS)
    for row in rows:
        sheet.append([row.get(label) for label in LABELS])
    book.save(out)
    return out.getvalue()


def make_request(raw: bytes, kind: str = "tickets", **more: Any) -> ImportRequest:
    return ImportRequest(kind=kind, raw=raw, **more)


def import_rows(context: AppContext, rows: Sequence[dict[str, str]], **more: Any) -> ImportReport:
    return run_import(context, make_request(write_csv(rows), **more), by="Olga")


def list_tickets(context: AppContext) -> list[Ticket]:
    with context.store.transaction() as session:
        tickets = list(session.scalars(select(Ticket).order_by(Ticket.id)))
        for ticket in tickets:
            _ = ticket.milestones, ticket.tasks, ticket.messages, ticket.owner, ticket.company
            _ = [link.contact for link in ticket.contacts]
        return tickets


def get_milestones(ticket: Ticket) -> set[Milestone]:
    return {r.milestone for r in ticket.milestones}


def get_counts(report: ImportReport) -> tuple[int, int, int]:
    return tuple(
        report.outcomes[o] for o in (RowOutcome.ADDED, RowOutcome.KNOWN, RowOutcome.REFUSED)
    )  # type: ignore[return-value]


def test_a_ticket_moves_in_with_everything_it_had(any_context: AppContext) -> None:
    context = any_context
    with context.store.transaction() as session:
        olga = create_staff(session, "Olga")
        create_company(session, "Acme Clinic", manager=olga)
    report = import_rows(context, [make_row(1, "5-Audit", ticket_owner="OLGA", source="EMAIL")])
    assert get_counts(report) == (1, 0, 0)
    (ticket,) = list_tickets(context)
    assert (ticket.name, ticket.subject) == (
        TICKET_NAME.format(company="Acme Clinic"),
        "Claim 1 denied",
    )
    assert (ticket.stage, ticket.status, ticket.type) == (Stage.AUDIT, Status.OPEN, "Billing Issue")
    assert ticket.owner is not None
    assert ticket.owner.name == "Olga"
    assert [link.contact.email for link in ticket.contacts] == ["jo@acme.test"]
    assert ticket.contacts[0].contact.name == "Jo Doe"
    assert get_milestones(ticket) == {Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT}
    assert {r.by for r in ticket.milestones} == {"import"}
    assert ticket.created_at == datetime(2025, 11, 3, 9, 30, tzinfo=UTC)
    assert ticket.period_started_at == START
    assert ticket.messages[0].text == "Please look at claim 1"
    assert ["Our own field", "kept"] in ticket.messages[0].details
    assert ["Source", "EMAIL"] in ticket.messages[0].details
    assert ticket.caveats == []


def test_columns_are_known_by_label_or_internal_name_in_csv_and_excel(context: AppContext) -> None:
    rows = [make_row(1), make_row(2)]
    semicolons = write_csv(rows, delimiter=";")
    for raw in (
        write_csv(rows),
        write_csv(rows, INTERNAL),
        write_xlsx(rows),
        semicolons,
        b"\xef\xbb\xbf" + write_csv(rows),
    ):
        report = preview_import(context, make_request(raw))
        labels = {c.property: c.label for c in report.columns if c.property}
        assert {
            "record_id",
            "stage",
            "name",
            "text",
            "owner",
            "company",
            "contact_emails",
            "created",
        } <= labels.keys()
        assert [c.label for c in report.columns if not c.property] in (
            ["Our own field"],
            ["our_own_field"],
        )
        assert get_counts(report) == (2, 0, 0)
    assert list_tickets(context) == []


def test_a_dry_run_says_what_applying_then_does(any_context: AppContext) -> None:
    context = any_context
    with context.store.transaction() as session:
        create_staff(session, "Olga")
        create_company(session, "Beta Health")
    rows = [
        make_row(1, "1-Submitted", ticket_owner="Nobody Known"),
        make_row(2, "Waiting on contact (Billing)", ticket_owner="Olga"),
        make_row(3, "6-Completed", close_date="2025-12-01", associated_company="Beta Health"),
        make_row(4, "on hold"),
        make_row(5, record_id=""),
        make_row(1),
    ]
    vocabulary = Vocabulary(stages={"waiting on contact": Stage.IN_PROGRESS})
    preview = preview_import(context, make_request(write_csv(rows), vocabulary=vocabulary))
    assert list_tickets(context) == []
    assert count_rows(context, Import) == count_rows(context, AuditEntry) == 0
    report = import_rows(context, rows, vocabulary=vocabulary)
    assert get_counts(preview) == get_counts(report) == (3, 1, 2)
    assert [row for row, _ in preview.refused_rows] == [5, 6]
    assert "on hold" in preview.refused_rows[0][1]
    for name in (
        "outcomes",
        "refused_rows",
        "remarks",
        "statuses",
        "stages",
        "unknown_people",
        "new_contacts",
        "not_notified",
    ):
        assert getattr(preview, name) == getattr(report, name), name
    assert preview.new_companies == report.new_companies == {"acme clinic": "Acme Clinic"}
    assert preview.stages["on hold"] is None
    assert preview.unknown_people == {"Nobody Known": 1}
    assert (preview.not_notified, preview.advanced) == (1, 0)


@pytest.mark.parametrize(
    ("stage", "more", "becomes", "milestone_count"),
    [
        ("4-In Progress", {}, Stage.IN_PROGRESS, 1),
        ("5-audit", {}, Stage.AUDIT, 2),
        ("5-Audit", {"resolution": "Yes"}, Stage.AUDIT, 3),
        (
            "4-In Progress",
            {"actions": "5-Recap of Resolution Sent", "resolution": "Yes"},
            Stage.IN_PROGRESS,
            3,
        ),
        (
            "5-Audit",
            {"actions": "5-Recap of Resolution Sent", "resolution": "Yes"},
            Stage.COMPLETED,
            4,
        ),
        ("4-In Progress", {"actions": "4-Support Follow Up Sent"}, Stage.AUDIT, 2),
        ("6-Completed", {}, Stage.COMPLETED, 4),
        ("1-Submitted", {}, Stage.IN_PROGRESS, 1),
    ],
)
def test_no_ticket_sticks_where_nothing_can_move_it(
    context: AppContext, stage: str, more: dict[str, str], becomes: Stage, milestone_count: int
) -> None:
    import_rows(context, [make_row(1, stage, **more)])
    (ticket,) = list_tickets(context)
    assert (ticket.stage, len(ticket.milestones)) == (becomes, milestone_count)
    assert ticket.status is (Status.COMPLETED if becomes is Stage.COMPLETED else Status.OPEN)
    assert [t.kind for t in ticket.tasks] == (["tell-customer"] if stage == "1-Submitted" else [])


def test_an_import_mails_nobody_now_or_later(
    any_context: AppContext, clock: HandClock, relay: Relay
) -> None:
    rows = [make_row(n, stage) for n, stage in enumerate(Stage)]
    with send_through(any_context, relay.url) as context:
        import_rows(
            context,
            [*rows, make_row(9, "5-Audit", actions="5-Recap of Resolution Sent", resolution="Yes")],
        )
        for _ in range(5):
            sweep.sweep(context, redis_away=lambda: True)
            sender.send_waiting(context)
            clock.turn(days=1)
        assert count_rows(context, OutgoingMail) == count_rows(context, LastSurvey) == 0
    assert relay.taken == []


def test_old_tickets_do_not_all_escalate_at_once(context: AppContext, clock: HandClock) -> None:
    import_rows(context, [make_row(1), make_row(2, "6-Completed")])
    sweep.sweep(context, redis_away=lambda: False)
    assert count_rows(context, Task) == 0
    clock.turn(hours=73)
    sweep.sweep(context, redis_away=lambda: False)
    assert count_rows(context, Task) == 2  # follow up, escalate: of the open one


def test_an_imported_ticket_goes_on_like_any_other(context: AppContext) -> None:
    import_rows(context, [make_row(1, "5-Audit")])
    (ticket,) = list_tickets(context)
    reach(context, ticket.id, Milestone.RESOLVED, Milestone.RECAP_SENT)
    assert list_tickets(context)[0].stage is Stage.COMPLETED


def test_what_is_imported_again_adds_only_what_is_new(any_context: AppContext) -> None:
    context = any_context
    assert get_counts(import_rows(context, [make_row(1), make_row(2)])) == (2, 0, 0)
    assert get_counts(import_rows(context, [make_row(1), make_row(2), make_row(3)])) == (1, 2, 0)
    assert len(list_tickets(context)) == 3
    assert count_rows(context, Contact) == count_rows(context, Company) == 1


class SimulatedKill(BaseException):
    """Stands for a kill in the middle of an import."""


def test_killed_in_the_middle_and_run_again_nothing_is_doubled(any_context: AppContext) -> None:
    context, rows = any_context, [make_row(n) for n in range(250)]

    def kill(done: int, _of: int) -> None:
        if done == 200:
            raise SimulatedKill

    with pytest.raises(SimulatedKill):
        run_import(context, make_request(write_csv(rows)), by="Olga", step=kill)
    assert len(list_tickets(context)) == 200
    report = import_rows(context, rows)
    assert (report.was_resumed, report.number) == (True, 1)
    assert get_counts(report) == (250, 0, 0)
    assert len(list_tickets(context)) == 250
    assert count_rows(context, Import) == 1
    assert count_rows(context, ImportRow) == 250


def test_channels_can_write_while_a_large_file_is_imported(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        run, "BATCH", 100
    )  # long enough for a waiting channel to ask every tenth of a second only
    intake, stop, numbers, at = Intake(context), Event(), list[int](), list[int]()

    def deliveries() -> None:
        while not stop.is_set():
            numbers.append(intake.accept(make_call_arrival()))

    def moving_in() -> None:
        raw = write_csv([make_row(n) for n in range(400)])
        run.run_import(
            context, make_request(raw), by="Olga", step=lambda _done, _of: at.append(len(numbers))
        )
        stop.set()

    assert run_in_threads(deliveries, moving_in) == []
    assert len(set(at)) >= 3, "nobody else had a turn between two batches"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("spam", Status.SPAM),
        ("withdrawn", Status.WITHDRAWN),
        ("merged", Status.WITHDRAWN),
        ("open", Status.OPEN),
    ],
)
def test_side_ends_stay_what_they_are(context: AppContext, state: str, status: Status) -> None:
    raw = write_csv([make_row(1, priority=state)]).replace(b"Priority", b"State")
    run_import(context, make_request(raw), by="Olga")
    assert list_tickets(context)[0].status is status


def test_the_import_stands_in_audit_and_ledger(any_context: AppContext) -> None:
    context = any_context
    import_rows(context, [make_row(1), make_row(1), make_row(2, "on hold")])
    with context.store.read_only() as session:
        rows = [
            (a.actor, a.action, a.cause)
            for a in session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        ]
    assert rows == [
        ("Olga", "import", "import tickets"),
        ("Olga", "imported", "import 1"),
        ("Olga", "import finished", "import 1"),
    ]
    with context.store.read_only() as session:
        found = compute_balance(session)
    line_of = found.channels["import"]
    assert (line_of.received, line_of.opened, line_of.duplicate, line_of.failed) == (3, 1, 1, 1)
    assert found.adds_up


def test_undone_what_nobody_touched_is_withdrawn_and_may_come_again(
    any_context: AppContext,
) -> None:
    context = any_context
    import_rows(context, [make_row(n) for n in range(3)])
    second = list_tickets(context)[1].id
    reach(context, second, Milestone.FOLLOW_UP_SENT)
    done = undo_import(context, 1, by="Lena")
    assert (done.withdrawn_count, done.changed_ids) == (2, [second])
    with context.store.read_only() as session:
        assert compute_balance(session).adds_up
    assert [t.status for t in list_tickets(context)] == [
        Status.WITHDRAWN,
        Status.OPEN,
        Status.WITHDRAWN,
    ]
    assert undo_import(context, 1, by="Lena").withdrawn_count == 0
    assert get_counts(import_rows(context, [make_row(n) for n in range(3)])) == (2, 1, 0)
    with pytest.raises(ActionNotAllowed):
        undo_import(context, 77, by="Lena")


def test_an_answer_of_the_customer_counts_as_touched(context: AppContext) -> None:
    import_rows(context, [make_row(1), make_row(2)])
    first, second = (t.id for t in list_tickets(context))
    token = context.signer.make_token("t", first)
    filing = deliver(
        context,
        make_mail(sender=make_mail().sender),
        {"rcpt_to": [f"support+t-{token}@localhost"]},
    )
    assert filing.ticket_id not in {first, second}  # a stranger's mail joins nothing
    jo = make_mail(sender=type(make_mail().sender)("Jo", "jo@acme.test"))
    assert deliver(context, jo, {"rcpt_to": [f"support+t-{token}@localhost"]}).ticket_id == first
    assert undo_import(context, 1, by="Lena").changed_ids == [first]


def test_dates_of_every_kind(context: AppContext) -> None:
    dates = ["2025-11-03T09:30:00.125Z", "1762162200000", "11/03/2025 4:30 AM", "nonsense"]
    vocabulary = Vocabulary(time_zone=__import__("zoneinfo").ZoneInfo("America/New_York"))
    import_rows(
        context, [make_row(n, create_date=d) for n, d in enumerate(dates)], vocabulary=vocabulary
    )
    found = [t.created_at for t in list_tickets(context)]
    assert found == [datetime(2025, 11, 3, 9, 30, tzinfo=UTC)] * 3 + [START]
    assert any("nonsense" in c for c in list_tickets(context)[3].caveats)


def test_excel_dates_and_numbers_are_read_as_meant(context: AppContext) -> None:
    row: dict[str, Any] = make_row(1, "6-Completed")
    row |= {
        "Record ID": 987654321012,
        "Create date": datetime(2025, 11, 3, 9, 30),  # noqa: DTZ001
        "Close date": datetime(2025, 11, 4),  # noqa: DTZ001
    }
    run_import(context, make_request(write_xlsx([row])), by="Olga")
    (ticket,) = list_tickets(context)
    assert ticket.origin == "crm/987654321012"
    assert ticket.created_at == datetime(2025, 11, 3, 9, 30, tzinfo=UTC)
    assert ticket.completed_at == datetime(2025, 11, 4, tzinfo=UTC)


def test_a_chosen_mapping_comes_before_known_columns(context: AppContext) -> None:
    raw = (
        write_csv([make_row(1, "4-In Progress")])
        .replace(b"Ticket status", b"Phase")
        .replace(b"Priority", b"Status")
    )
    with pytest.raises(ParseError, match="no column Zzz"):
        preview_import(context, make_request(raw, columns={"Zzz": "stage"}))
    with pytest.raises(ParseError, match="no property phase"):
        preview_import(context, make_request(raw, columns={"Phase": "phase"}))
    assert get_counts(preview_import(context, make_request(raw))) == (
        0,
        0,
        1,
    )  # the column Status is blank
    assert get_counts(preview_import(context, make_request(raw, columns={"phase": "stage"}))) == (
        1,
        0,
        0,
    )
    report = preview_import(
        context, make_request(raw, columns={"phase": "stage", "Associated Company": ""})
    )
    assert report.new_companies == {}


@pytest.mark.parametrize(
    "raw", [b"", b"hello", b"a,b\n1,2\n", write_csv([]), b"Record ID,Ticket name\n1,x\n"]
)
def test_what_is_no_export_is_refused_with_words(context: AppContext, raw: bytes) -> None:
    with pytest.raises(ParseError):
        run_import(context, make_request(raw), by="Olga")
    assert count_rows(context, Import) == 0


def test_many_contacts_keep_their_names(context: AppContext) -> None:
    import_rows(
        context,
        [
            make_row(
                1,
                associated_contact="Jo Doe;Pat Roe",
                associated_contact_emails="jo@acme.test;pat@acme.test",
            ),
            make_row(2, associated_contact="Kim Poe (kim@acme.test)", associated_contact_emails=""),
            make_row(3, associated_contact="Nameless", associated_contact_emails=""),
        ],
    )
    contacts = [
        [(link.contact.name, link.contact.email) for link in t.contacts]
        for t in list_tickets(context)
    ]
    assert contacts == [
        [("Jo Doe", "jo@acme.test"), ("Pat Roe", "pat@acme.test")],
        [("Kim Poe", "kim@acme.test")],
        [],
    ]
    assert any("address" in c for c in list_tickets(context)[2].caveats)


def test_owners_can_be_given_by_their_number(context: AppContext) -> None:
    with context.store.transaction() as session:
        create_staff(session, "Olga")
    report = import_rows(
        context,
        [make_row(1, ticket_owner="81"), make_row(2, ticket_owner="82")],
        vocabulary=Vocabulary(owners={"81": "Olga"}),
    )
    assert report.unknown_people == {"82": 1}
    first, second = list_tickets(context)
    assert first.owner is not None
    assert second.owner is None
    assert any("82" in c for c in second.caveats)


def test_companies_get_what_they_lack_and_nothing_is_overwritten(any_context: AppContext) -> None:
    context = any_context
    with context.store.transaction() as session:
        olga = create_staff(session, "Olga")
        create_staff(session, "Max")
        create_company(session, "Acme Clinic", manager=olga)
    raw = (
        b"Company name,Company Domain Name,Manager,Practice ID\n"
        b"ACME Clinic,acme.test,Max,4711\n"
        b"Beta,beta.test;gmail.com,Max,\n"
        b"Gamma,acme.test,Zoe,\n"
        b",x.test,,\n"
        b"Beta,,,\n"
    )
    preview = preview_import(context, make_request(raw, "companies"))
    report = run_import(context, make_request(raw, "companies"), by="Olga")
    assert report.outcomes == {
        RowOutcome.CHANGED: 1,
        RowOutcome.ADDED: 2,
        RowOutcome.REFUSED: 1,
        RowOutcome.KNOWN: 1,
    }
    assert preview.outcomes == report.outcomes
    assert [row for row, _ in report.remarks] == [2, 3, 4, 6]
    with context.store.transaction() as session:
        by_name = {c.name: c for c in session.scalars(select(Company))}
        acme, beta, gamma = by_name["Acme Clinic"], by_name["Beta"], by_name["Gamma"]
        assert (acme.number, acme.manager and acme.manager.name) == ("4711", "Olga")
        assert [d.domain for d in acme.domains] == ["acme.test"]
        assert ([d.domain for d in beta.domains], beta.manager and beta.manager.name) == (
            ["beta.test"],
            "Max",
        )
        assert (gamma.domains, gamma.manager) == ([], None)
    assert get_counts(run_import(context, make_request(raw, "companies"), by="Olga"))[0] == 0


def test_a_manager_who_is_imported_answers_the_caveat_of_open_tickets(
    any_context: AppContext,
) -> None:
    with any_context.store.transaction() as session:
        create_staff(session, "Max")
        acme = create_company(session, "Acme Clinic").id
    number = open_ticket(any_context, make_mail(company="Acme Clinic"))
    with any_context.store.read_only() as session:
        assert NO_MANAGER in session.get_one(Ticket, number).caveats
    run_import(
        any_context,
        make_request(b"Company name,Manager\nAcme Clinic,Max\n", "companies"),
        by="Olga",
    )
    with any_context.store.read_only() as session:
        assert session.get_one(Company, acme).manager
        assert NO_MANAGER not in session.get_one(Ticket, number).caveats


def test_a_near_name_makes_no_second_company(any_context: AppContext) -> None:
    context = any_context
    with context.store.transaction() as session:
        known = create_company(session, "Quillfield Pediatrics", number="00471").id
    row = make_row(1)
    label = next(label for label in row if "company" in label.casefold())
    report = import_rows(context, [{**row, label: "Quillfeld Pediatrics"}])
    assert get_counts(report)[0] == 1
    (ticket,) = list_tickets(context)
    assert (ticket.company_id, ticket.near_companies) == (None, [known])
    assert [c for c in ticket.caveats if "perhaps Quillfield Pediatrics (no. 00471)" in c]
    assert NO_COMPANY not in ticket.caveats
    raw = b"First name,Email,Company name\nPat,pat@quill.example,Quillfield Pediatric\n"
    planned = preview_import(context, make_request(raw, "contacts"))
    done = run_import(context, make_request(raw, "contacts"), by="Olga")
    for one in (planned, done):
        assert "perhaps Quillfield Pediatrics (no. 00471)" in str(one.remarks)
    assert count_rows(context, Company) == 1
    # A list of companies says that it is one: it is put on record, and the report names the other.
    raw = b"Company name,Practice ID\nQuillfeld Pediatrics,\n"
    done = run_import(context, make_request(raw, "companies"), by="Olga")
    assert "perhaps Quillfield Pediatrics (no. 00471): merge them" in str(done.remarks)
    assert count_rows(context, Company) == 2


def test_contacts_get_what_they_lack(any_context: AppContext) -> None:
    context = any_context
    with context.store.transaction() as session:
        acme = create_company(session, "Acme Clinic")
        session.add(Contact(email="jo@acme.test", name="", company=acme, created_at=START))
    raw = (
        b"First name,Last name,Email,Phone number,Company name\n"
        b"Jo,Doe,JO@acme.test,555-0100,Beta\nPat,Roe,pat@beta.test,,Beta\nNo,One,,,\n"
    )
    planned = preview_import(context, make_request(raw, "contacts"))
    done = run_import(context, make_request(raw, "contacts"), by="Olga")
    assert planned.outcomes == done.outcomes
    assert done.outcomes == {RowOutcome.CHANGED: 1, RowOutcome.ADDED: 1, RowOutcome.REFUSED: 1}
    with context.store.transaction() as session:
        jo, pat = session.scalars(select(Contact).order_by(Contact.email))
        assert (jo.name, jo.phone, jo.company and jo.company.name) == (
            "Jo Doe",
            "555-0100",
            "Acme Clinic",
        )
        assert (pat.name, pat.company and pat.company.name) == ("Pat Roe", "Beta")
    assert timedelta() == context.clock() - START
