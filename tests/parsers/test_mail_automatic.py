"""Automatic mail: what nobody wrote is known as such, and what a person wrote is not."""

import pytest

from parsers import mail
from parsers.item import InboundItem


def read(header: str, body: str = "Some text.") -> InboundItem:
    fields = header if "From:" in header else f"From: jane@clinic.example\n{header}"
    fields = fields if "Subject:" in fields else f"{fields}\nSubject: Claim 4711"
    [item] = mail.parse(f"{fields}\n\n{body}\n".encode())
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
        "X-Loop: us@billing.example",
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
        ("From: Mailer-Daemon@mx.example\nSubject: x", "The following address could not be delivered"),
        ("Content-Type: multipart/report; report-type=delivery-status; boundary=z", "--z\n\nx\n--z--"),
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
    ],
)
def test_a_persons_mail_is_a_persons(header: str, body: str) -> None:
    item = read(header, body)
    assert (item.is_automated, item.is_auto_reply, item.is_bounce) == (False, False, False)


def test_a_feedback_report_is_no_bounce() -> None:
    parts = "--z\n\nabuse\n--z\nContent-Type: message/feedback-report\n\nFeedback-Type: abuse\n--z--"
    item = read("Content-Type: multipart/report; report-type=feedback-report; boundary=z", parts)
    assert (item.is_bounce, item.is_automated) == (False, True)


def test_a_read_receipt_is_an_answer_not_a_bounce() -> None:
    parts = "--z\n\nread\n--z\nContent-Type: message/disposition-notification\n\nDisposition: x\n--z--"
    item = read("Content-Type: multipart/report; report-type=disposition-notification; boundary=z", parts)
    assert (item.is_bounce, item.is_auto_reply) == (False, True)
