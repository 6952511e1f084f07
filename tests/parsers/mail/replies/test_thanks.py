"""Messages that thank, and ask for nothing."""

import pytest

from parsers.mail import message
from parsers.mail.replies import thanks


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Thank you!", True),
        ("Thanks so much for your help.\n\nCleo Ames\nClinic Ten", True),
        ("Hi Carla,\nthank you, perfect.\nBest,\nCleo", True),
        ("Vielen Dank!", True),
        ("Merci beaucoup", True),
        ("Thanks, but the second claim is still open.", False),
        ("Thank you. Can you send the ledger?", False),
        ("Thanks, please post check 4711", False),
        ("Please post the payment.", False),
        ("", False),
    ],
)
def test_only_thanks(text: str, *, expected: bool) -> None:
    assert thanks.is_only_thanks(text) is expected


def test_what_is_quoted_below_thanks_asks_nothing() -> None:
    quote = "On Mon, Nov 30, 2026 Desk <desk@pmb.example> wrote:\n> Is claim 12 paid?"
    (item,) = message.parse(
        f"From: a@x.example\nSubject: Re: x\n\nThank you!\n\n{quote}\n".encode()
    )
    assert item.is_only_thanks
