"""Words that only look old or like a signature are shown: a bare rule or mark proves nothing."""

import pytest

from parsers.mail.replies import courtesies, extract
from parsers.mail.replies.extract import ThreadRole

HEADER = (
    "From: Blue Payer <letters@payer.example>\nSent: Monday, May 4, 2026 9:15 AM\n"
    "To: Kim <kim@clinic.example>\nSubject: Review of account 52\n\n"
)
FORWARDED_TEXT = "Account 52 was reviewed and refused."


@pytest.mark.parametrize("rule", ["---", "--", "-- ", "____", "________________", "====", "***"])
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_cases_parted_by_rules_are_all_shown(rule: str, gap: str) -> None:
    text = gap.join(
        [
            "First: account 51 is open.",
            rule,
            "Second: account 52 was paid twice.",
            rule,
            "Third: 53.",
        ]
    )
    for thread in ThreadRole:
        assert extract.extract_newest(text, thread) == text


@pytest.mark.parametrize(
    "behind",
    ["Kim Doe\nNorth Clinic", "kim", "Kim Doe | North Clinic | 555-0134", "Best regards,\nKim"],
)
def test_a_signature_below_a_rule_is_folded(behind: str) -> None:
    assert extract.extract_newest(f"Account 51 is open.\n\n-- \n{behind}") == "Account 51 is open."


@pytest.mark.parametrize("thread", [ThreadRole.REPLY, ThreadRole.NEW])
@pytest.mark.parametrize(
    "second", ["And what about account 52?", "From: 5/1/2026 To: 5/31/2026 nothing was paid"]
)
def test_paragraphs_parted_by_a_line_of_html_are_shown(second: str, thread: ThreadRole) -> None:
    shown = extract.extract_newest_from_html(f"<p>Account 51?</p><hr><p>{second}</p>", thread)
    assert "Account 51?" in shown
    assert second in shown


@pytest.mark.parametrize(
    "courtesy",
    [
        "Hi Lou,",
        "Dear Ms. Lou Roe,",
        "Kim Doe\nFront desk\nTel 555 0134",
        "Best regards,\nKim",
        "Hello Lou\n\nRegards\nKim",
    ],
)
def test_a_forwarded_text_below_a_courtesy_alone_is_shown(courtesy: str) -> None:
    assert courtesies.is_only_courtesies(courtesy)
    assert FORWARDED_TEXT in extract.extract_newest(f"{courtesy}\n\n{HEADER}{FORWARDED_TEXT}")


@pytest.mark.parametrize(
    "answer", ["Yes", "Yes please.", "Hi Lou, it is account 52.", "Thanks!", "We called them\nKim"]
)
def test_an_answer_is_no_courtesy(answer: str) -> None:
    assert extract.extract_newest(f"{answer}\n\n{HEADER}{FORWARDED_TEXT}") == answer


@pytest.mark.parametrize(
    "pointer",
    [
        "My answers are below in capitals.",
        "Please see inline.",
        "See below in red",
        "Comments inline, Kim",
        "Antworten unten",
    ],
)
@pytest.mark.parametrize("answer", ["[Kim] account 52", "ACCOUNT 52", ">>> ACCOUNT 52"])
def test_answers_that_are_announced_below_are_shown(pointer: str, answer: str) -> None:
    assert answer in extract.extract_newest(f"{pointer}\n\n{HEADER}Which account?\n{answer}\n")


@pytest.mark.parametrize("intro", ["The payer wrote:", "It is not right, because"])
def test_lines_quoted_by_hand_at_the_end_are_shown(intro: str) -> None:
    text = f"Look at this.\n{intro}\n> modifier 59 was sent"
    assert extract.extract_newest(text) == text


@pytest.mark.parametrize(
    "own",
    [
        '<div class="gmail_quote">{}</div>',
        '<blockquote class="gmail_quote">{}</blockquote>',
        '<div id="Signature">{}</div>',
    ],
)
def test_a_mark_alone_hides_nothing_in_a_new_message(own: str) -> None:
    words = "account 52 has been open since April, and nobody calls us"
    assert words in extract.extract_newest_from_html(
        f"<p>Good day.</p>{own.format(words)}", ThreadRole.NEW
    )
