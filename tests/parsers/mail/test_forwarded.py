"""Headers of forwarded messages: of many programs, in many languages, and attached."""

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from parsers.item import Address, Attachment, ForwardedHeader
from parsers.mail import forwarded, message

# Language -> names of From, the date, To and Subject; as the programs write them.
LABELS = {
    "en": ("From", "Sent", "To", "Subject"),
    "de": ("Von", "Gesendet", "An", "Betreff"),
    "fr": ("De", "Envoyé", "À", "Objet"),
    "es": ("De", "Enviado el", "Para", "Asunto"),
    "pt": ("De", "Enviado", "Para", "Assunto"),
    "it": ("Da", "Inviato", "A", "Oggetto"),
    "nl": ("Van", "Verzonden", "Aan", "Onderwerp"),
    "sv": ("Från", "Skickat", "Till", "Ämne"),
    "da": ("Fra", "Sendt", "Til", "Emne"),
    "fi": ("Lähettäjä", "Lähetetty", "Vastaanottaja", "Aihe"),
    "pl": ("Od", "Wysłano", "Do", "Temat"),
    "ru": ("От", "Отправлено", "Кому", "Тема"),
    "tr": ("Kimden", "Gönderildi", "Kime", "Konu"),
    "zh": ("发件人", "发送时间", "收件人", "主题"),
    "ja": ("差出人", "送信日時", "宛先", "件名"),
}
SENDERS = {
    "Mel Dodd <mel.dodd@clinic.example>": ("Mel Dodd", "mel.dodd@clinic.example"),
    "Dodd, Mel [mailto:mel.dodd@clinic.example]": ("Dodd, Mel", "mel.dodd@clinic.example"),
    '"Dodd, Mel" <mel.dodd@clinic.example>': ("Dodd, Mel", "mel.dodd@clinic.example"),
    "Mel Dodd <mel.dodd@clinic.example<mailto:mel.dodd@clinic.example>>": (
        "Mel Dodd",
        "mel.dodd@clinic.example",
    ),
    "mel.dodd@clinic.example <mel.dodd@clinic.example>": ("", "mel.dodd@clinic.example"),
    "'Müller, Eva' <eva@praxis.example>": ("Müller, Eva", "eva@praxis.example"),
    "Mel Dodd (Front Desk) <mel.dodd@clinic.example>": (
        "Mel Dodd (Front Desk)",
        "mel.dodd@clinic.example",
    ),
    "mel.dodd@clinic.example": ("", "mel.dodd@clinic.example"),
    "Mel Dodd": ("Mel Dodd", ""),
}
ORDERS = {
    "Outlook": "from date to subject",
    "Gmail": "from date subject to",
    "Apple Mail": "from subject date to",
    "Thunderbird": "subject date from to",
    "Notes": "from to date subject",
}
LAYOUTS = {
    "plain": "{label}: {value}",
    "quoted": "> {label}: {value}",
    "bold": "*{label}:* {value}",
    "tab": "{label}:\t{value}",
    "French blank": "{label} : {value}",
    "table": "{label}:\n{value}",
    "apart": "{label}: {value}\n",
}
ANNOUNCEMENTS = (
    "---------- Forwarded message ---------",
    "Begin forwarded message:",
    "-------- Weitergeleitete Nachricht --------",
    "Début du message réexpédié :",
    "----- Forwarded by Carla on 03/02/2026 -----",
)


def write_header(
    language: str = "en",
    sender: str = "Mel Dodd <mel.dodd@clinic.example>",
    order: str = "Outlook",
    layout: str = "plain",
) -> str:
    labels = dict(zip(("from", "date", "to", "subject"), LABELS[language], strict=True))
    values = {
        "from": sender,
        "date": "27.11.2026 14:00",
        "to": "Carla <carla@desk.example>",
        "subject": "Copay refund",
    }
    names = ORDERS[order].split()
    lines = (LAYOUTS[layout].format(label=labels[n], value=values[n]) for n in names)
    return "\n".join(lines)


def find_one(text: str) -> ForwardedHeader:
    (header,) = forwarded.find_headers(text, ())
    return header


@pytest.mark.parametrize("language", LABELS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_header_is_found_in_each_language_and_order(language: str, order: str) -> None:
    header = find_one(f"For the queue.\n\n{write_header(language, order=order)}\n\nHow?")
    assert header.sender == Address("Mel Dodd", "mel.dodd@clinic.example")
    assert (header.subject, header.date) == ("Copay refund", "27.11.2026 14:00")
    assert header.language == language
    assert not header.is_announced


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("order", ORDERS)
def test_the_layout_does_not_matter(layout: str, order: str) -> None:
    header = find_one(write_header(order=order, layout=layout))
    assert header.sender == Address("Mel Dodd", "mel.dodd@clinic.example")
    assert header.subject == "Copay refund"


@pytest.mark.parametrize(("written", "expected"), SENDERS.items())
def test_the_sender_is_read_as_programs_write_it(written: str, expected: tuple[str, str]) -> None:
    sender = find_one(write_header(sender=written)).sender
    assert (sender.name, sender.email) == expected


def test_a_wrapped_sender_and_a_long_list_of_recipients_are_one_header() -> None:
    text = (
        "From: A Person With A Long Name\n <long@clinic.example>\nSent: Friday\n"
        "To: Carla <carla@desk.example>;\n Bob <bob@desk.example>\nSubject: x"
    )
    assert find_one(text).sender.email == "long@clinic.example"


words = st.text(st.sampled_from("abcdefgh ÄéŁ"), min_size=1, max_size=12).map(
    lambda text: " ".join(text.split())  # blanks in a name are folded
)


@effort(max_examples=150, deadline=None)
@given(
    language=st.sampled_from(sorted(LABELS)),
    order=st.sampled_from(sorted(ORDERS)),
    layout=st.sampled_from(sorted(LAYOUTS)),
    name=words.filter(bool),
    local=st.from_regex(r"[a-z]{1,12}", fullmatch=True),
    before=st.sampled_from(["", "For the queue.\n\n", "Hi\nplease see below\nAnn\n\n", "\n\n\n"]),
    behind=st.sampled_from(["", "\n\nHow?", "\n\nFrom now on we pay by card.\nTo: be sure"]),
)
def test_names_order_and_layout_change_nothing(
    language: str, order: str, layout: str, name: str, local: str, before: str, behind: str
) -> None:
    email = f"{local}@clinic.example"
    text = before + write_header(language, f"{name} <{email}>", order, layout) + behind
    header = find_one(text)
    assert header.sender == Address(name, email)
    assert (header.subject, header.language) == ("Copay refund", language)


def test_the_headers_of_a_chain_come_outermost_first() -> None:
    text = f"{write_header(sender='Bob <bob@desk.example>')}\n\nsee below\n\n{write_header('de')}"
    senders = [h.sender.email for h in forwarded.find_headers(text, ())]
    assert senders == ["bob@desk.example", "mel.dodd@clinic.example"]


@pytest.mark.parametrize("announcement", ANNOUNCEMENTS)
def test_an_announced_message_is_passed_on(announcement: str) -> None:
    headers = forwarded.find_headers(f"{announcement}\n\n{write_header()}", ())
    assert headers[0].is_announced
    assert forwarded.passes_on("", headers)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [("FW: x", True), ("WG: x", True), ("TR : x", True), ("Re: x", False), ("x", False)],
)
def test_a_quoted_header_alone_passes_nothing_on(subject: str, *, expected: bool) -> None:
    headers = forwarded.find_headers(write_header(), ())
    assert forwarded.passes_on(subject, headers) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "From: 1 March\nTo: 3 March\nPlease check the dates.",
        "Subject: hello\nno header at all",
        "Please call me.",
        "Subject:\n" * 50,
    ],
)
def test_own_words_are_no_header(text: str) -> None:
    assert forwarded.find_headers(text, ()) == ()


def make_attached(sender: str, name: str = "mail.eml", mime: str = "message/rfc822") -> Attachment:
    content = f"From: {sender}\r\nSubject: Copay\r\nDate: Fri, 27 Nov 2026 14:00:00 +0000\r\n\r\nx"
    return Attachment(name, mime, content.encode())


def test_an_attached_message_is_passed_on() -> None:
    attached = make_attached("Mel Dodd <mel.dodd@clinic.example>")
    (header,) = forwarded.find_headers("see attached", [attached])
    assert header.sender == Address("Mel Dodd", "mel.dodd@clinic.example")
    assert (header.subject, header.is_attached) == ("Copay", True)
    assert forwarded.passes_on("for the queue", [header])
    renamed = make_attached("mel.dodd@clinic.example", mime="application/octet-stream")
    assert forwarded.find_headers("", [renamed])[0].is_attached
    assert (
        forwarded.find_headers("", [Attachment("a.pdf", "application/pdf", b"From: a@b.c")]) == ()
    )


def parse(*fields: str) -> message.InboundItem:
    head = "".join(f"{field}\r\n" for field in fields)
    return message.parse(f"{head}Subject: x\r\n\r\nwords\r\n".encode())[0]


@pytest.mark.parametrize(
    "field", ["X-Original-From", "X-Original-Sender", "X-Google-Original-From"]
)
def test_a_group_names_the_author(field: str) -> None:
    item = parse("From: 'Omar' via Help <help@desk.example>", f"{field}: Omar <omar@six.example>")
    assert item.original_sender == Address("Omar", "omar@six.example")


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("X-Mailer: PHPMailer 6.9 (https://github.com/PHPMailer/PHPMailer)", True),
        ("X-PHP-Originating-Script: 33:class-phpmailer.php", True),
        ("X-Mailer: WPForms 1.8", True),
        ("X-Mailer: Microsoft Outlook 16.0", False),
        ("User-Agent: Mozilla Thunderbird", False),
    ],
)
def test_a_mail_of_a_web_form_is_known_by_its_program(field: str, *, expected: bool) -> None:
    assert parse("From: info@clinic.example", field).is_form_mail is expected
