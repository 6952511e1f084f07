"""Devices and programs that mark nothing get no notice, and people are not taken for them."""

# ruff: noqa: RUF001, SIM905 - words of many languages look like those of others; a list to be read

import time

import pytest

from parsers.item import InboundItem
from parsers.mail import evidence, message


def read(sender: str, body: str = "Some text.", *fields: str) -> InboundItem:
    header = "\n".join([f"From: {sender}", *fields])
    header = header if "Subject:" in header else f"{header}\nSubject: Claim 4711"
    [item] = message.parse(f"{header}\n\n{body}\n".encode())
    return item


ADDRESSES = """
    notify notification notifications portal-notifications payer.alerts eob-notify reminders
    newsletter benachrichtigung notificaciones notifiche meldingen powiadomienia auto-confirm
    voicemail voice-mail vmail2 unity-connection fax efax faxserver fax_gateway scan scanner
    scan2mail copier2 mfp printer kopierer photocopieur fotocopiadora stampante xerox konica-minolta
    anrufbeantworter buzon-de-voz nicht-antworten keine-antwort ne-pas-repondre nepasrepondre
    no-responder nao-responda non-rispondere niet-beantwoorden nie-odpowiadac unattended
""".split()


@pytest.mark.parametrize("local", ADDRESSES)
def test_an_address_of_a_device_or_program_is_a_hint(local: str) -> None:
    item = read(f"{local}@clinic.example")
    assert item.is_automated
    assert not evidence.has_proof(item.signs)


@pytest.mark.parametrize(
    "name",
    [
        "Payer Notifications",
        "Do Not Reply",
        "Voicemail",
        "Fax Server",
        "Front Desk Scanner",
        "Copier 2",
        "RICOH MP C3004 Scanner",
        "Xerox WorkCentre 7845",
    ],
)
def test_so_is_such_a_name(name: str) -> None:
    signs = set(read(f"{name} <x17@clinic.example>").signs)
    assert signs & {"machine-name", "device-name"}


UNREAD = [
    "Please do not reply to this e-mail.",
    "Statement ready.\n\n*** DO NOT REPLY ***",
    "This mailbox is not monitored.",
    "The statement is ready. Replies to this message are not read.",
    "This message was sent from a notification-only address.",
    "You cannot reply to this message.",
    "Bitte antworten Sie nicht auf diese E-Mail.",
    "Auf diese Nachricht bitte nicht antworten!",
    "Merci de ne pas répondre à ce message.",
    "Por favor, no responda a este mensaje.",
    "Si prega di non rispondere a questo messaggio.",
    "Por favor, não responda a esta mensagem.",
    "Gelieve niet te antwoorden op dit bericht.",
    "Prosimy nie odpowiadać na tę wiadomość.",
    "Пожалуйста, не отвечайте на это письмо.",
    "本邮件由系统发出，请勿直接回复。",
    "このメールは送信専用です。",
]
PROGRAM = [
    "This is an automated message from the portal.",
    "Your report. This email was automatically generated.",
    "Dies ist eine automatisch generierte Nachricht.",
    "Ceci est un message automatique.",
    "Este es un correo generado automáticamente.",
    "Questo messaggio è stato generato automaticamente.",
]
DEVICE = [
    'This E-mail was sent from "RNP0026" (Aficio MP C3001).',
    "Scan from device.",
    "Please open the attached document. It was scanned and sent to you using a Xerox printer.",
    "Device Name: Office\nDevice Model: MX-3071",
    "You have received a new voicemail\nLength: 0:42",
    "You have received a 3 page fax",
    "Attachment File Type: PDF, Multi-Page",
]


@pytest.mark.parametrize(
    ("words", "sign"),
    [
        *((text, "unread-words") for text in UNREAD),
        *((text, "program-words") for text in PROGRAM),
        *((text, "device-words") for text in DEVICE),
    ],
)
def test_sentences_of_programs_and_devices_are_hints(words: str, sign: str) -> None:
    item = read("x17@clinic.example", words)
    assert sign in item.signs
    assert item.is_automated
    assert not item.is_auto_reply


def test_an_address_that_people_have_too_counts_where_nothing_shows_a_person() -> None:
    report = "The remittance report of March is ready for download."
    assert "no-person" in read("reports@payer.example", report).signs
    for words in (
        "Can you see the report?",
        "I have sent the report.",
        "We need the report of March for the payer.",
        "Le rapport est en ligne.",
        "Hello, please help with the report of claim 4711.",
    ):
        assert not read("reports@payer.example", words).is_automated
    answer = read("reports@payer.example", report, "In-Reply-To: <a@b.example>", "Subject: Re: x")
    assert not answer.is_automated


PEOPLE = [
    ("Paul Scanlon <scanlon@clinic.example>", "Please call back."),
    ("Faxon Lee <faxon.lee@clinic.example>", "Please call back."),
    ("ct-scan@radiology.example", "The CT department asks for its statements."),
    ("Avis Alarm <avis@clinic.example>", "Please call back."),
    ("Xerox Doe <doe@clinic.example>", "Please call back."),
    ("records-request@clinic.example", "Please send the records."),
    ("service@clinic.example", "We wait for the refund."),
    ("ivy@clinic.example", "Please do not reply with patient data."),
    ("ivy@clinic.example", "Please do not reply to this message until Monday."),
    ("ivy@clinic.example", "This mailbox is not monitored on weekends."),
    (
        "ivy@clinic.example",
        "If you are not the intended recipient, please do not reply to this message.",
    ),
    ("ivy@clinic.example", "I got a mail that says:\nThis is an automated message. What is it?"),
    ("ivy@clinic.example", "The payer does not answer this message type."),
    ("ivy@clinic.example", "Your fax was cut off, send it again. The printer is broken."),
    ("ivy@clinic.example", "Our scanner sends the documents by mail now."),
]


@pytest.mark.parametrize(("sender", "words"), PEOPLE)
def test_people_are_people(sender: str, words: str) -> None:
    item = read(sender, words)
    assert item.signs == ()
    assert not item.is_automated


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (
            "Re: portal",
            (
                "See below.\n\nOn Mon, Mar 2, 2026 at 9:00 AM Portal <x@payer.example> wrote:\n"
                "> This is an automated message.\n> Please do not reply to this e-mail."
            ),
        ),
        (
            "Fwd: portal",
            (
                "---------- Forwarded message ---------\nFrom: Portal <x@payer.example>\n"
                "Date: Mon, Mar 2, 2026\nSubject: portal\nTo: <ivy@clinic.example>\n\n"
                "This is an automated message.\nPlease do not reply to this e-mail."
            ),
        ),
    ],
)
def test_what_a_person_quotes_or_passes_on_says_nothing_of_them(subject: str, words: str) -> None:
    assert read("ivy@clinic.example", words, f"Subject: {subject}").signs == ()


def test_a_hostile_text_costs_little() -> None:
    texts = ["do not " * 50_000, "please, " * 50_000, ". do not reply to this " * 20_000]
    started = time.process_time()
    for text in texts:
        read("a-" * 5000 + "x@clinic.example", text)
    assert time.process_time() - started < 10
