"""Damaged multiparts: the words between damaged delimiters are shown, with a caveat."""

import base64

import pytest

from parsers.item import InboundItem
from parsers.mail import message

LONG = 'Content-Type: multipart/mixed; boundary="long-one"\n\n--long-one\n'
HEAD = "From: Jane Doe <jane@clinic.example>\nSubject: Claim 1234\nMIME-Version: 1.0\n"
WORDS = "Could you resubmit the claim?"
FILE = (
    'Content-Type: application/pdf; name="remit.pdf"\nContent-Transfer-Encoding: base64\n\nAAAA\n'
)
TEXT = f"Content-Type: text/plain\n\n{WORDS}\n"
CODED = (
    "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    + base64.encodebytes(WORDS.encode()).decode()
)


def read(text: str) -> InboundItem:
    [item] = message.parse((HEAD + text).encode())
    return item


UNDIVIDED = {
    "no delimiter at all": f'Content-Type: multipart/mixed; boundary="x-1"\n\n{WORDS}\n',
    "no boundary and no delimiter": f"Content-Type: multipart/alternative\n\n{WORDS}\n",
    "a header without a delimiter": f'Content-Type: multipart/mixed; boundary="x-1"\n\n{TEXT}',
    "an encoded part without a delimiter": (
        f'Content-Type: multipart/mixed; boundary="x-1"\n\n{CODED}'
    ),
    "the inner delimiters are gone": (
        'Content-Type: multipart/mixed; boundary="out"\n\n--out\n'
        f'Content-Type: multipart/alternative; boundary="in"\n\n{WORDS}\n\n--out\n{FILE}--out--\n'
    ),
    "a short outer boundary": (
        'Content-Type: multipart/mixed; boundary="o"\n\n--o\n'
        f'Content-Type: multipart/related; boundary="i"\n\n{WORDS}\n\n--o\n{FILE}--o--\n'
    ),
    "the first inner delimiter is gone": (
        'Content-Type: multipart/mixed; boundary="out"\n\n--out\n'
        f'Content-Type: multipart/mixed; boundary="in"\n\n{TEXT}\n--in\n{FILE}--in--\n--out--\n'
    ),
    "words behind the last delimiter": (
        f'Content-Type: multipart/mixed; boundary="b"\n\n--b\n{FILE}--b--\n\n{WORDS}\n'
    ),
    "words before the first delimiter": (
        f'Content-Type: multipart/mixed; boundary="b"\n\n{WORDS}\n--b\n{FILE}--b--\n'
    ),
    "words before a closing delimiter": (
        f'Content-Type: multipart/mixed; boundary="b"\n\n{WORDS}\n--b--\n'
    ),
    "a delimiter cut short": f"{LONG}{FILE}--long\n{TEXT}",
    "a delimiter with a tail": f"{LONG}{FILE}--long-one.\n{TEXT}",
    "a delimiter that is gone": (
        f'Content-Type: multipart/mixed; boundary="b"\n\n--b\n{FILE}{TEXT}--b--\n'
    ),
    "closed too early": (
        f'Content-Type: multipart/mixed; boundary="b"\n\n--b\n{FILE}--b--\n--b\n{TEXT}--b--\n'
    ),
}
HEALED = {
    "closed too early",
    "a delimiter cut short",
    "a delimiter with a tail",
}  # every part is where it belongs


@pytest.mark.parametrize("what", UNDIVIDED)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_words_that_no_delimiter_sets_apart_are_shown_with_a_caveat(what: str, end: str) -> None:
    [item] = message.parse((HEAD + UNDIVIDED[what]).replace("\n", end).encode())
    assert WORDS in item.text
    assert WORDS in item.reply_text
    assert item.caveats or what in HEALED
    assert "no text" not in item.caveats
    if FILE in UNDIVIDED[what]:
        assert [a.name for a in item.attachments] == ["remit.pdf"]
        assert item.attachments[0].content == b"\0\0\0"


@pytest.mark.parametrize(
    ("written", "boundary"),
    [
        ("Part;7", "Part;7"),
        ("Part;7; charset=utf-8", "Part;7"),
        ("two words", "two words"),
        ("two words; type=x", "two words"),
        ('"never closed', "never closed"),
        ("'single'", "single"),
        ("'single'", "'single'"),
        ('trailing"', "trailing"),
        ("wrong-one", "right-one"),
        ("", "a"),
        ("UPPER", "upper"),
        ("x=y", "x=y"),
        ('"quoted;one"', "quoted;one"),
    ],
)
def test_a_boundary_is_found_however_it_is_written(written: str, boundary: str) -> None:
    item = read(
        f"Content-Type: multipart/alternative; boundary={written}\n\n--{boundary}\n{TEXT}"
        f"--{boundary}\nContent-Type: text/html\n\n<p>{WORDS}</p>\n--{boundary}--\n"
    )
    assert (item.text, item.plain, item.html) == (WORDS, WORDS, f"<p>{WORDS}</p>")
    assert item.attachments == ()


@pytest.mark.parametrize(
    "usual",
    [
        "This is a multi-part message in MIME format.",
        (
            "This message is in MIME format.\nSince your mail reader does not understand this"
            " format, it is not legible."
        ),
        "Dies ist eine mehrteilige Nachricht im MIME-Format.",
        "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)",
    ],
)
def test_what_mail_programs_write_before_the_parts_is_no_text(usual: str) -> None:
    item = read(f'Content-Type: multipart/mixed; boundary="b"\n\n{usual}\n--b\n{TEXT}--b--\n')
    assert (item.text, item.caveats) == (WORDS, ())


def test_a_message_that_is_attached_is_not_divided_by_the_words_in_it() -> None:
    inner = (
        "Subject: x\nContent-Type: multipart/mixed; boundary=in\n\n--in\nContent-Type:"
        " text/plain\n\na\n--in--"
    )
    item = read(
        f"Content-Type: multipart/mixed; boundary=out-1\n\n--out-1\n{TEXT}--out-1\n"
        f"Content-Type: message/rfc822\n\n{inner}\n--out-1--\n"
    )
    assert item.text == WORDS
    assert [a.content.decode() for a in item.attachments] == [inner]


def test_lines_about_headers_in_a_persons_text_are_text() -> None:
    words = "Our scanner writes\n\nContent-Type: application/pdf\n\ninto each mail. Is that right?"
    item = read(
        "Content-Type: multipart/mixed; boundary=out-1\n\n--out-1\nContent-Type:"
        f" text/plain\n\n{words}\n--out-1--\n"
    )
    assert (item.text, item.attachments) == (words, ())


def test_parts_beyond_the_limit_are_in_one_file() -> None:
    parts = "".join(f"--b\n\nword{n}\n" for n in range(1200))
    item = read(f"Content-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n")
    rest = item.attachments[0].content.decode()
    assert item.attachments[0].name == "remaining-parts.txt"
    assert all(f"word{n}\n" in item.text + "\n" + rest for n in range(1200))


@pytest.mark.parametrize(
    "footer", ["Scanned by the gateway of our clinic.", "\nPlease think of trees\nbefore printing."]
)
def test_words_behind_base64_are_words(footer: str) -> None:
    encoded_text = base64.encodebytes(
        "Die Zahlung für März fehlt noch immer, bitte prüfen!".encode()
    ).decode()
    head = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    item = read(f"{head}{encoded_text}{footer}\n")
    assert item.text.startswith("Die Zahlung für März fehlt noch immer, bitte prüfen!\n")
    assert footer.strip() in item.text
