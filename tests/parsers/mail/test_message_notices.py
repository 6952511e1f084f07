"""Read receipts, recalls and challenges: what is one, and what a person wrote about one."""

import pytest

from parsers.item import InboundItem
from parsers.mail import evidence, message
from parsers.mail.evidence import Meaning


def read(subject: str, text: str, *fields: str) -> InboundItem:
    head = "\r\n".join(("From: Pat <pat@clinic.example>", f"Subject: {subject}", *fields))
    head += "\r\nContent-Type: text/plain; charset=utf-8"
    [item] = message.parse(f"{head}\r\n\r\n{text}\r\n".encode())
    return item


def find_notice(subject: str, text: str) -> Meaning | None:
    return evidence.find_notice(read(subject, text).signs)


RECEIPTS = {
    "en": (
        "Read: Claim 7",
        "Your message \n\n  To: Pat\n  Subject: Claim 7\n  Sent: Monday\n\nwas read on Monday.",
    ),
    "en, unread": ("Not read: Claim 7", "Your message was deleted without being read on Monday."),
    "en, plain": ("Return receipt: Claim 7", "This is a receipt for the mail you sent to Pat."),
    "de": ("Gelesen: Claim 7", "Ihre Nachricht an Pat wurde am Montag um 9:00 gelesen."),
    "fr": ("Lu : Claim 7", "Votre message à Pat a été lu le lundi."),
    "es": ("Leído: Claim 7", "El mensaje enviado a Pat se leyó el lunes."),
    "it": ("Letto: Claim 7", "Il messaggio inviato a Pat è stato letto lunedì."),
    "pt": ("Lida: Claim 7", "A sua mensagem para Pat foi lida na segunda-feira."),
    "nl": ("Gelezen: Claim 7", "Uw bericht aan Pat is gelezen op maandag."),
}
RECALLS = {
    "en": ("Recall: Claim 7", 'Pat Doe would like to recall the message, "Claim 7".'),
    "de": ("Rückruf: Claim 7", "Pat Doe möchte die Nachricht „Claim 7“ zurückrufen."),
    "fr": ("Rappel : Claim 7", "Pat Doe souhaite rappeler le message « Claim 7 »."),
    "es": ("Recuperar: Claim 7", 'Pat Doe desea recuperar el mensaje "Claim 7".'),
    "it": ("Richiamo: Claim 7", 'Pat Doe desidera richiamare il messaggio "Claim 7".'),
    "pt": ("Recolher: Claim 7", 'Pat Doe gostaria de recolher a mensagem "Claim 7".'),
    "nl": ("Intrekken: Claim 7", "Pat Doe wil het bericht 'Claim 7' intrekken."),
    "with a footer": (
        "Recall: Claim 7",
        'Pat Doe would like to recall the message, "Claim 7".\n\nThis mail is confidential.',
    ),
    "without its subject": ("Claim 7", 'Pat Doe would like to recall the message, "Claim 7".'),
}
CHALLENGES = {
    "en": (
        "Re: your ticket",
        (
            "Your message to pat@clinic.example is being held. To have it delivered, please confirm"
            " that you are a human: https://filter.example/x1"
        ),
    ),
    "en, by answer": (
        "Sender verification",
        "Your email has not been delivered yet. Reply to this mail to verify your address.",
    ),
    "de": (
        "Bitte bestätigen",
        "Ihre Nachricht wurde zurückgehalten. Bestätigen Sie hier: https://filter.example/x1",
    ),
    "fr": (
        "Confirmation",
        "Votre message est en attente. Confirmez votre adresse : https://filter.example/x1",
    ),
    "es": ("Verificación", "Su mensaje está retenido. Confirme aquí: https://filter.example/x1"),
}
KINDS = {
    Meaning.RECEIPT: RECEIPTS,
    Meaning.RECALL: RECALLS,
    Meaning.CHALLENGE: CHALLENGES,
}


@pytest.mark.parametrize(
    ("notice", "subject", "text"),
    [(kind, *words) for kind, examples in KINDS.items() for words in examples.values()],
    ids=[f"{kind}, {name}" for kind, examples in KINDS.items() for name in examples],
)
def test_each_is_known_and_named(notice: Meaning, subject: str, text: str) -> None:
    item = read(subject, text)
    assert evidence.find_notice(item.signs) is notice
    assert item.is_automated
    caveat = evidence.make_caveat(item.signs)
    assert caveat.startswith(f"{notice}, sent automatically (")
    assert evidence.is_caveat(caveat)


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        ("Read: the denial of claim 7", "Please read it and call me back."),
        ("Claim 7", "Your message was read on Monday, and we still wait for an answer."),
        ("Recall: implants of March", "The payer asks for the recall list of March."),
        ("Recall: claim 7", "I would like to recall the message about claim 7, it was wrong."),
        ("Question", "Ann would like to recall the message she sent. Please call her."),
        ("Rappel : facture 7", "Merci de payer la facture 7 avant lundi."),
        ("Claim held", "The claim is held until you confirm the address: https://payer.example/7"),
        (
            "Payment",
            (
                "Please confirm the address of the patient here: https://portal.example/7. Your"
                " message came on Monday."
            ),
        ),
        ("Held mail", "Your message is held by our filter, I will ask our people tomorrow."),
        ("Newsletter", "Scanned by our spam filter. Click here to report: https://f.example/1"),
    ],
)
def test_what_a_person_writes_is_none(subject: str, text: str) -> None:
    assert find_notice(subject, text) is None


def test_a_long_mail_that_mentions_one_is_none() -> None:
    subject, text = RECALLS["with a footer"]
    assert find_notice(subject, text + "\nWe talked about it for long." * 200) is None


def test_the_part_of_a_receipt_proves_it_and_a_bounce_is_none() -> None:
    raw = (
        "From: Pat <pat@clinic.example>\r\nSubject: Re: x\r\n"
        "Content-Type: multipart/report; report-type={}; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nSeen.\r\n"
        "--b\r\nContent-Type: message/{}\r\n\r\nFinal-Recipient: rfc822; pat@clinic.example\r\n"
        "Action: failed\r\n--b--\r\n"
    )
    kinds = []
    for report, part in (
        ("disposition-notification", "disposition-notification"),
        ("delivery-status", "delivery-status"),
    ):
        [item] = message.parse(raw.format(report, part).encode())
        kinds.append(evidence.find_notice(item.signs))
    assert kinds == [Meaning.RECEIPT, None]


def test_the_subject_of_the_recalled_mail_is_found() -> None:
    assert evidence.strip_recall_prefix("Recall: Claim 7") == "Claim 7"
    assert evidence.strip_recall_prefix("Rückruf: AW: Claim 7") == "AW: Claim 7"
    assert evidence.strip_recall_prefix("Claim 7") == "Claim 7"
