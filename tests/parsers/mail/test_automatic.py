"""Automatic mail: it is recognised, and mail of people is never taken for it."""

import pytest

from parsers.item import InboundItem
from parsers.mail import evidence, message


def read(header: str, body: str = "Some text.") -> InboundItem:
    fields = header if "From:" in header else f"From: jane@clinic.example\n{header}"
    fields = fields if "Subject:" in fields else f"{fields}\nSubject: Claim 4711"
    [item] = message.parse(f"{fields}\n\n{body}\n".encode())
    return item


@pytest.mark.parametrize(
    "header",
    [
        "Auto-Submitted: auto-replied",
        "AUTO-SUBMITTED: Auto-Replied (vacation)",
        "Auto-Submitted: auto-generated\nIn-Reply-To: <a@b.example>",
        "X-Autoreply: yes",
        "Precedence: auto_reply",
        "X-Auto-Response-Suppress: All\nX-MS-Exchange-Inbox-Rules-Loop: x@y.example",
        "Subject: Automatic reply: Claim",
        "Subject: Out of Office: Claim",
        "Subject: Abwesenheitsnotiz Max Muster",
        "Subject: Réponse automatique : Facture",
        "Subject: Respuesta automática: Factura",
        "Subject: Risposta automatica: Fattura",
        "Subject: Automatisch antwoord: Factuur",
        "Subject: Autosvar: Faktura",
        "Subject: Автоответ: Счёт",
        "Subject: 自动回复: 账单",
        "Subject: 自動返信: 請求",
    ],
)
def test_automatic_answers_in_many_words(header: str) -> None:
    item = read(header)
    assert (item.is_auto_reply, item.is_automated, item.is_bounce) == (True, True, False)


@pytest.mark.parametrize(
    "header",
    [
        "Precedence: bulk",
        "List-Id: <x.y.example>",
        "List-Unsubscribe: <https://x.example>",
        "Auto-Submitted: auto-generated",
        "Return-Path: <>",
        "From: no-reply@shop.example",
        "From: MAILER-DAEMON@mx.example",
        "Feedback-Type: abuse",
        "\n".join(f"Received: from a{i} by b; Tue, 01 Jul 2025 10:00:00 +0000" for i in range(60)),
    ],
)
def test_machines_get_no_answer(header: str) -> None:
    item = read(header)
    assert (item.is_automated, item.is_auto_reply, item.is_bounce) == (True, False, False)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("X-Failed-Recipients: x@y.example", ""),
        ("Subject: Delivery Status Notification (Failure)", ""),
        ("From: MAILER-DAEMON@mx.example\nSubject: failure notice", "550 5.1.1 user unknown"),
        ("Return-Path: <>\nSubject: Undeliverable: Claim", ""),
        ("From: postmaster@mx.example\nSubject: Unzustellbar: Frage", ""),
        (
            "From: Mailer-Daemon@mx.example\nSubject: x",
            "The following address could not be delivered",
        ),
        (
            "Content-Type: multipart/report; report-type=delivery-status; boundary=z",
            "--z\n\nx\n--z--",
        ),
    ],
)
def test_bounces_of_every_family(header: str, body: str) -> None:
    item = read(header, body)
    assert (item.is_bounce, item.is_automated, item.is_auto_reply) == (True, True, False)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("Subject: Re: Out of Office", "Thanks, I will write to her."),
        ("Subject: Out of office hours billing", "Who is paid then?"),
        ("Subject: Fwd: Undeliverable: Claim", "We got this, why?"),
        ("Subject: Undeliverable statements", "Patients say the address is wrong."),
        ("Subject: Mail delivery question", "Our statements do not arrive."),
        ("Auto-Submitted: no", ""),
        ("Precedence: first-class", ""),
        ("X-MS-Exchange-Inbox-Rules-Loop: x@y.example", ""),
        ("From: Nora Reply <nora.reply@clinic.example>", ""),
        ("From: reply@clinic.example", ""),
        ("Subject: Absence of payment", "No money came."),
        # what other help desks take for a program, and people's mail has
        ("X-Auto-Response-Suppress: None", ""),
        ("X-Auto-Response-Suppress: DR, RN, NRN, OOF, AutoReply", ""),
        ("X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent", ""),
        ("X-SG-EID: abc\nX-SG-ID: def\nFeedback-ID: 1:2:3", ""),
        ("X-Mailgun-Sid: abc\nX-Campaign-ID: none", ""),
        ("X-Report-Abuse-To: abuse@host.example", ""),
        ("X-Loop: us@billing.example", ""),
        ("From: Medical Records <records-request@clinic.example>", ""),
        ("From: The Owner <practice-owner@clinic.example>", ""),
        ("From: Lee Daemon <daemon.lee@clinic.example>", ""),
        ("From: Ann Postmaster <postmaster.ann@clinic.example>", ""),
        ("From: System Administrator <it@clinic.example>", ""),
        ("Subject: Auto: claim of the crash on 3 May", ""),
        ("Subject: On leave: Dr. Lee, who signs her claims?", ""),
        ("Subject: On vacation - cover for billing", ""),
        ("Subject: Delivery problem with statements", "They did not reach the patients."),
        ("Subject: Returned mail list", "The following address is no longer good: 12 Elm St"),
        ("Subject: Failed delivery of records", "The fax could not be delivered to the payer."),
        ("Subject: Undelivered mail", "The mailbox is full of returned statements."),
    ],
)
def test_a_persons_mail_is_a_persons(header: str, body: str) -> None:
    item = read(header, body)
    assert (item.is_automated, item.is_auto_reply, item.is_bounce) == (False, False, False)


REPORT_PARTS = """--z

This came back, what now?
--z
Content-Type: message/delivery-status

Reporting-MTA: dns; x

Action: failed
Final-Recipient: rfc822; a@b.example
--z--"""
MIXED = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=z"


def test_a_report_that_a_person_passes_on_is_a_persons_mail() -> None:
    item = read(f"Subject: Fwd: Undeliverable: Claim\n{MIXED}", REPORT_PARTS)
    assert (item.is_bounce, item.signs) == (False, ())


def test_the_same_parts_from_a_mail_system_are_a_bounce_but_no_proof() -> None:
    item = read(f"From: MAILER-DAEMON@mx.example\n{MIXED}", REPORT_PARTS)
    assert item.is_bounce
    assert not evidence.has_proof(item.signs)


@pytest.mark.parametrize("value", ["auto-replied", "auto-generated", "auto-notified", "yes"])
def test_auto_submitted_is_proof(value: str) -> None:
    assert evidence.has_proof(read(f"Auto-Submitted: {value}").signs)


@pytest.mark.parametrize("sign", evidence.SIGNS, ids=lambda sign: sign.name)
def test_every_sign_has_a_source_and_noise_never_counts(sign: evidence.Sign) -> None:
    assert sign.label
    assert sign.source
    counts = evidence.order_signs([sign.name]) == (sign.name,)
    assert counts is (sign.grade is not evidence.Grade.NONE)


FIELDS = [(sign, field) for sign in evidence.SIGNS for field in sorted(sign.fields)]


@pytest.mark.parametrize(("sign", "field"), FIELDS, ids=lambda value: getattr(value, "name", value))
def test_every_field_of_the_table_is_looked_for(sign: evidence.Sign, field: str) -> None:
    words = ("auto-replied", "auto-generated", "auto-reply", "bulk", "yes")
    value = next(w for w in words if sign.value is None or sign.value.fullmatch(w))
    counts = sign.name in read(f"{field.title()}: {value}").signs
    assert counts is (sign.grade is not evidence.Grade.NONE)


def test_a_feedback_report_is_no_bounce() -> None:
    parts = (
        "--z\n\nabuse\n--z\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n--z--"
    )
    item = read("Content-Type: multipart/report; report-type=feedback-report; boundary=z", parts)
    assert (item.is_bounce, item.is_automated) == (False, True)


def test_a_read_receipt_is_an_answer_not_a_bounce() -> None:
    parts = (
        "--z\n\nread\n--z\nContent-Type: message/disposition-notification\n\nDisposition: x\n--z--"
    )
    item = read(
        "Content-Type: multipart/report; report-type=disposition-notification; boundary=z", parts
    )
    assert (item.is_bounce, item.is_auto_reply) == (False, True)
