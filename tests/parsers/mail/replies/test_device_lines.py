"""Lines of devices and programs are folded away; sentences of people that look like them stay."""

import pytest

from parsers.mail.replies import extract

DEVICES = ("iPhone", "iPad", "Galaxy S24", "Pixel 9", "HTC M8 Android phone", "Xiaomi 12", "mobile")
PROGRAMS = ("Airmail", "BlueMail", "Spark", "Superhuman", "Canary", "ProtonMail", "TypeApp")
EXCUSES = (
    "",
    ".",
    ".  Please excuse typos",
    ". Please excuse any typos or brevity.",
    ", please forgive mistakes",
    " - sorry for the brevity",
)
LINES = (
    *(f"Sent from my {device}{excuse}" for device in DEVICES for excuse in EXCUSES),
    *(f"Sent {by} {name}" for by in ("with", "from", "via") for name in PROGRAMS),
    *(f"Sent from {name}<http://www.{name}.example/r?b={'1' * 120}>" for name in PROGRAMS),
    *(f"Sent from [{name}](https://{name}.example/x) for Windows 10" for name in PROGRAMS),
    "Sent from [Mail](https://go.example/fwlink/?LinkId=55) for Windows",
    "Sent from Mail for Windows",
    "Sent from Yahoo Mail on Android",
    "Sent from the all new AOL app for iOS",
    "Sent from Wunderpost <https://wunderpost.example>",
    "SENT FROM MY IPHONE",
    "sent by galaxy",
    "<<sent by galaxy>>",
    "[Sent from my phone]",
    "*Sent via mobile*",
    "Typed on my iPad",
    "Written on my phone",
    "From my iPhone 6",
    "from my Android phone",
    "via mobile",
    "Via my phone",
    "Get [Outlook for Android](https://aka.example/x)",
    "Get Outlook for iOS<https://aka.example/x>",
    "Gesendet mit der GMX Mail App",
    "Von meinem iPhone gesendet",
    "Von meinem Handy",
    "Gesendet von [Mail](https://go.example/x) für Windows",
    "Envoyé de mon iPhone",
    "De mon téléphone",
    "Dal mio cellulare",
    "Vanaf mijn iPhone",
    "Enviado desde mi Samsung",
    "Desde mi celular",
    "Inviato da Libero Mail<https://libero.example>",
    "Verzonden vanaf mijn iPad",
)
SENTENCES = (
    *(
        f"{verb} from the {place} by {way}{time}."
        for verb in ("Sent", "sent")
        for place in ("clinic", "front desk", "billing office", "pharmacy", "practice")
        for way in ("fax", "mail", "courier", "phone")
        for time in ("", " yesterday", " on Monday", " last week")
    ),
    "Sent from the phone of my colleague, who is out.",
    "Sent from my phone yesterday.",
    "Sent from my office",
    "Sent from my desk, it is easier than writing on the phone all day long.",
    "Sent via FedEx this morning",
    "Sent via certified mail",
    "Sent by mail.",
    "Sent by Jane Doe",
    "Sent with invoice 4711",
    "Sent with the batch of March",
    "Sent with Love",
    "Sent with Best Regards",
    "Sent from Chicago",
    "Sent to the payer by phone",
    "From my point of view all is well.",
    "From my manager:",
    "Via the portal we get an error.",
    "via fax",
    "Written by the doctor",
    "The claim was sent from my phone",
    "Gesendet von der Praxis per Fax gestern.",
    "Envoyé par fax hier",
    "Enviado desde la clínica ayer.",
    "Inviato dalla clinica ieri",
)
BELOW = (
    "",
    "\n",
    "\n\nOn Mon, Jun 30, 2025 at 9:00 AM Support <s@billing.example> wrote:\n> Shall we?\n",
    "\n\n-----Original Message-----\nFrom: Support\nSent: Monday\nTo: Jane\nSubject: x\n\nWell?",
)


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_a_device_is_folded(line: str) -> None:
    for below in BELOW:
        assert extract.extract_newest(f"Please call me.\n\n{line}{below}") == "Please call me."


@pytest.mark.parametrize("line", SENTENCES)
def test_a_sentence_of_a_person_stays(line: str) -> None:
    for below in BELOW:
        newest = extract.extract_newest(f"Did you get the records?\n\n{line}{below}")
        assert newest == f"Did you get the records?\n\n{line}"


@pytest.mark.parametrize("line", LINES[::3])
def test_a_line_amid_the_text_stays(line: str) -> None:
    body = f"This stands below each mail:\n\n{line}\n\nCan you see why?"
    assert extract.extract_newest(body) == body


@pytest.mark.parametrize("line", LINES[::3])
def test_lines_of_several_programs_are_folded_together(line: str) -> None:
    body = f"Please call me.\n\n{line}\nSent with Airmail\n\nGet Outlook for iOS\n"
    assert extract.extract_newest(body) == "Please call me."
