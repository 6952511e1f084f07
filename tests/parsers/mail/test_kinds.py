"""Contents of a mail besides its text: results of checks, images, sealed blocks, mails."""

import pytest

from parsers.item import InboundItem
from parsers.mail import message


def read(header: str, body: str = "Body.") -> InboundItem:
    [item] = message.parse(f"From: jane@clinic.example\nSubject: x\n{header}\n\n{body}\n".encode())
    return item


def test_results_of_checks_are_kept_topmost_first_and_unfolded() -> None:
    item = read(
        "Authentication-Results: mx.billing.example;\n\tspf=pass smtp.mailfrom=clinic.example;\n "
        " dkim=pass\nauthentication-results: mx.billing.example 1;"
        " none\nAuthentication-Results:\nReceived: from a\nAuthentication-Results: mx.evil.example;"
        " dmarc=pass"
    )
    assert item.authentication == (
        "mx.billing.example; spf=pass smtp.mailfrom=clinic.example; dkim=pass",
        "mx.billing.example 1; none",
        "mx.evil.example; dmarc=pass",
    )


def test_results_of_checks_are_bounded() -> None:
    item = read(
        "\n".join(
            f"Authentication-Results: mx{i}.example; spf=pass {'x' * 9000}" for i in range(30)
        )
    )
    assert [value.split(".")[0] for value in item.authentication] == [f"mx{i}" for i in range(10)]
    assert max(map(len, item.authentication)) <= 4000
    assert read("X-Authentication-Results: mx.example; spf=pass").authentication == ()


def parse_parts(*given: str) -> InboundItem:
    body = "".join(f"--zz\n{part}\n" for part in given)
    return read("MIME-Version: 1.0\nContent-Type: multipart/related; boundary=zz", f"{body}--zz--")


def test_an_inline_image_is_found_by_its_cid() -> None:
    item = parse_parts(
        'Content-Type: text/html\n\n<img src="cid:scan@clinic">',
        "Content-Type: image/png; name=scan.png\nContent-ID: <scan@clinic>\n\nPNG",
        "Content-Type: image/png; name=a.png\nContent-ID: <a@clinic>\nContent-Disposition:"
        " attachment\n\nPNG",
        "Content-Type: image/gif; name=b.gif\nContent-Disposition: inline\n\nGIF",
    )
    found = [(a.name, a.content_id, a.inline) for a in item.attachments]
    assert found == [
        ("scan.png", "scan@clinic", True),
        ("a.png", "a@clinic", False),
        ("b.gif", "", True),
    ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("application/pkcs7-mime; smime-type=enveloped-data", "smime.p7m"),
        ("application/x-pkcs7-mime", "smime.p7m"),
        ("application/pkcs7-mime; name=gross.p7m", "gross.p7m"),
    ],
)
def test_a_sealed_block_is_kept_and_named(kind: str, name: str) -> None:
    item = read(f"Content-Type: {kind}", "MIIB")
    assert [a.name for a in item.attachments] == [name]
    assert "in one sealed block: cannot be read here" in item.caveats


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("text/calendar; method=REQUEST", "invite.ics"),
        ("application/ms-tnef", "winmail.dat"),
        ("application/pgp-signature", "signature.asc"),
        ("application/pkcs7-signature", "smime.p7s"),
        ("application/pdf", "attachment-1.pdf"),
    ],
)
def test_a_file_without_a_name_gets_the_usual_one(kind: str, name: str) -> None:
    item = parse_parts("Content-Type: text/plain\n\nSee it.", f"Content-Type: {kind}\n\nx")
    assert (item.text, [a.name for a in item.attachments]) == ("See it.", [name])
