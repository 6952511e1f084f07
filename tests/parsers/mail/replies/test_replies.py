"""Replies: new text is shown, quotes are folded, and in doubt they are shown."""

# ruff: noqa: RUF001 - words of many languages look like those of others

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.mail.replies import extract

ANNOUNCEMENTS = [
    "On Mon, Jun 30, 2025 at 9:00 AM Support <support@billing.example> wrote:",
    "On Mon, Jun 30, 2025 at 9:00 AM Support\n<support@billing.example> wrote:",
    "Am 30.06.2025 um 09:00 schrieb Support <support@billing.example>:",
    "Le lun. 30 juin 2025 à 09:00, Support <support@billing.example> a écrit :",
    "El lun, 30 jun 2025 a las 9:00, Support (<support@billing.example>) escribió:",
    "Il giorno lun 30 giu 2025 alle ore 09:00 Support <support@billing.example> ha scritto:",
    "Em seg., 30 de jun. de 2025 às 09:00, Support <support@billing.example> escreveu:",
    "Op ma 30 jun 2025 om 09:00 schreef Support <support@billing.example>:",
    "Den mån 30 juni 2025 kl 09:00 skrev Support <support@billing.example>:",
    "W dniu 30.06.2025 o 09:00, Support pisze:",
    "30.06.2025 09:00, Support <support@billing.example> пишет:",
    "2025年6月30日(月) 9:00 Support <support@billing.example>:",
    "在 2025年6月30日，09:00，Support <support@billing.example> 写道：",
    "---- On Mon, 30 Jun 2025 09:00:00 -0500 Support wrote ----",
]
OUTLOOK = [
    (
        "From: Support <support@billing.example>\nSent: Monday, June 30, 2025 9:00 AM\nTo:"
        " Jane\nSubject: Ticket\n"
    ),
    "Von: Support\nGesendet: Montag, 30. Juni 2025 09:00\nAn: Jane\nBetreff: Ticket\n",
    "De : Support\nEnvoyé : lundi 30 juin 2025 09:00\nÀ : Jane\nObjet : Ticket\n",
    "*De:* Support\n*Enviado:* lunes, 30 de junio de 2025\n*Para:* Jane\n*Asunto:* Ticket\n",
    "-----Original Message-----\nFrom: Support\n",
    "-----Ursprüngliche Nachricht-----\n",
    "________________________________\nFrom: Support\nDate: Monday\nTo: Jane\nSubject: Ticket\n",
]
DEVICES = [
    "Sent from my iPhone",
    "Get Outlook for iOS<https://aka.ms/x>",
    "Von meinem iPhone gesendet",
    "Envoyé de mon iPhone",
    "Enviado desde mi iPhone",
    "Verzonden vanaf mijn iPhone",
]


@pytest.mark.parametrize("announcement", ANNOUNCEMENTS)
@pytest.mark.parametrize("mark", ["> ", ""])
def test_an_answer_on_top_is_all_that_is_new(announcement: str, mark: str) -> None:
    body = f"Yes, please.\n\nJane\n\n{announcement}\n\n{mark}Shall we?\n{mark}Support\n"
    assert extract.extract_newest(body) == "Yes, please.\n\nJane"


@pytest.mark.parametrize("header", OUTLOOK)
def test_outlooks_headers_end_what_is_new(header: str) -> None:
    assert extract.extract_newest(f"Yes, please.\n\n{header}\nShall we?\n") == "Yes, please."


@pytest.mark.parametrize("line", DEVICES)
def test_a_devices_greeting_is_no_news(line: str) -> None:
    assert extract.extract_newest(f"Yes, please.\n\n{line}\n") == "Yes, please."


def test_an_answer_below_its_quote_is_found() -> None:
    body = (
        "On 30 Jun 2025 at 09:00, Support <s@billing.example> wrote:\n> Shall we?\n\nYes, please.\n"
    )
    assert extract.extract_newest(body) == "Yes, please."


def test_answers_between_quotes_are_all_found() -> None:
    body = (
        "On 30 Jun 2025, Support <s@billing.example> wrote:\n> One?\n\nFirst.\n\n>"
        " Two?\n\nSecond.\n"
    )
    assert extract.extract_newest(body) == "First.\n\n\nSecond."


def test_the_usual_signature_is_folded_away() -> None:
    assert extract.extract_newest("Yes.\n\n-- \nJane Doe\nClinic\n") == "Yes."


@pytest.mark.parametrize(
    "body",
    [
        "Only text.",
        "To: the point. The claim failed.",
        "Sent from my desk, it is easier than writing on the phone all day long.",
        "On 30 June we wrote to the payer. They never answered:\nplease help.",
        "> Only a quote.",
        "> A quote.\n\nAnd text without an announcement.",
        "Steps:\n1. open\n2. wrote a note\n",
        "```\n-----\nFrom: x\n```\nEnd.",
        "",
    ],
)
def test_in_doubt_all_is_shown(body: str) -> None:
    assert extract.extract_newest(body) == body.strip()


@pytest.mark.parametrize("rule", ["=" * 29, "-" * 40])
def test_a_rule_under_a_heading_begins_no_signature(rule: str) -> None:
    body = (
        f"Call me back, please.\n\nNew request from the website\n{rule}\nName: Jane Doe\nPhone: 555"
        " 0100"
    )
    assert extract.extract_newest(body) == body


@pytest.mark.parametrize("rule", ["-----", "_" * 20])
def test_a_rule_apart_or_short_begins_one(rule: str) -> None:
    assert (
        extract.extract_newest(f"Call me back, please, about my claim.\n\n{rule}\nJane Doe\nClinic")
        == "Call me back, please, about my claim."
    )
    assert (
        extract.extract_newest("Call me back, please.\n-----\nJane Doe") == "Call me back, please."
    )


def test_a_message_passed_on_is_news() -> None:
    header = "From: Payer <p@payer.example>\nDate: Monday\nSubject: Denial"
    body = f"FYI\n\n---------- Forwarded message ----------\n{header}\n\nDenied."
    assert extract.extract_newest(body) == body


@pytest.mark.parametrize(
    "quote",
    [
        '<div class="gmail_quote">On Monday Support wrote:<blockquote>Shall we?</blockquote></div>',
        '<blockquote type="cite">Shall we?</blockquote>',
        (
            '<div class="moz-cite-prefix">Am 30.06. schrieb S.:</div><blockquote type="cite">Shall'
            " we?</blockquote>"
        ),
        '<hr><div id="divRplyFwdMsg"><b>From:</b> Support</div><div>Shall we?</div>',
        (
            '<div style="border:none;border-top:solid #E1E1E1 1.0pt"><b>From:</b>'
            " Support</div><p>Shall we?</p>"
        ),
        '<div class="yahoo_quoted">Shall we?</div>',
        '<div class="protonmail_quote">Shall we?</div>',
        '<div id="appendonsend"></div><p>Shall we?</p>',
        "<p>On Jun 30, 2025, at 9:00 AM, Support &lt;s@b.example&gt; wrote:</p><p>Shall we?</p>",
    ],
)
def test_quotes_in_html_go_by_their_marks(quote: str) -> None:
    assert (
        extract.extract_newest_from_html(f"<html><body><p>Yes, please.</p>{quote}</body></html>")
        == "Yes, please."
    )


def test_gmails_forward_is_news() -> None:
    passed_on = "---------- Forwarded message ---------<br>From: Payer<br><p>Denied.</p>"
    html = f'<p>FYI</p><div class="gmail_quote">{passed_on}</div>'
    assert "Denied." in extract.extract_newest_from_html(html)


def test_html_that_is_all_quote_is_shown() -> None:
    assert "Shall we?" in extract.extract_newest_from_html("<blockquote>Shall we?</blockquote>")


@pytest.mark.parametrize(
    "line",
    [
        "On 1.1.2025 a@b.example wrote",
        "> x\ny",
        "From: a",
        "-----",
        "On " * 150,
        ">" * 200,
        "wrote:" * 80,
    ],
)
def test_hostile_replies_cost_bounded_time(line: str) -> None:
    started = time.process_time()
    extract.extract_newest((line + "\n") * 5000)
    assert time.process_time() - started < 4


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.sampled_from(
            [*ANNOUNCEMENTS, *OUTLOOK, *DEVICES, "text", "> quote", "", "-- ", "---", "|"]
        ),
        max_size=12,
    )
)
def test_a_reply_never_becomes_empty_or_longer(lines: list[str]) -> None:
    body = "\n".join(lines)
    newest = extract.extract_newest(body)
    assert bool(newest) == bool(body.strip())
    assert len(newest) <= len(body)


@pytest.mark.parametrize("announcement", ANNOUNCEMENTS[:-1])
@pytest.mark.parametrize("answer", ["Yes, claim 12 please.", "Ja bitte!", "Sí, gracias. Llámenos."])
@pytest.mark.parametrize("mark", ["> ", ""])
def test_an_answer_on_the_line_of_an_announcement_is_shown(
    announcement: str, answer: str, mark: str
) -> None:
    body = f"{answer} {announcement}\n{mark}Shall we?\n"
    assert extract.extract_newest(body) == answer


@pytest.mark.parametrize(
    "line",
    [
        "On Mon, Jun 30, 2025 at 9:00 AM Dr. Eva Moss <eva@billing.example> wrote:",
        "On Mar. 4, 2026, Eva Moss <eva@billing.example> wrote:",
        "30 апр. 2025 г. в 15:19, Eva Moss <eva@billing.example>:",
        "Le lun. 30 juin 2025 à 09:00, St. Ann <ann@billing.example> a écrit :",
    ],
)
def test_a_full_stop_within_an_announcement_ends_no_answer(line: str) -> None:
    assert extract.extract_newest(f"Yes.\n\n{line}\n> Shall we?\n") == "Yes."


@pytest.mark.parametrize(
    "body",
    [
        "As agreed on 3/4/2026 the payer wrote:\nClaim 12 was denied.\nPlease appeal.",
        "We called. On Monday the payer said:\nClaim 12 was denied.",
        (
            "New request\n\nFrom: Sunrise Clinic\nTo: Payer X\nDate: 3/4/2026\nClaim 12 was"
            " denied.\nPlease appeal."
        ),
        "Fax cover\n\nFrom: Ann\nTo: Bob\nSubject: Claim 12\n\nPlease appeal.",
        "Sent from the front desk by fax yesterday.\nDid you get it?",
        "The payer says:\n\n> Claim 12 was denied.\n\nIs that right?",
    ],
)
def test_ones_own_lines_that_look_like_a_programs_are_shown(body: str) -> None:
    assert extract.extract_newest(body) == body


@pytest.mark.parametrize(
    "header",
    [
        "From: desk@billing.example\nDate: Wed, 4 Mar 2026 00:15:02 -0600\n",
        "Von: Support <desk@billing.example>\nDatum: 4. März 2026 um 14:02\nAn: Jane\n",
        "De : desk@billing.example\nEnvoyé : mercredi 4 mars 2026\nObjet : Ticket\n",
    ],
)
def test_a_programs_header_is_known_by_address_time_or_field(header: str) -> None:
    assert (
        extract.extract_newest(f"At 8, please.\n\n{header}\nWhen may we call?") == "At 8, please."
    )


@pytest.mark.parametrize("header", OUTLOOK)
@pytest.mark.parametrize("thread", [extract.ThreadRole.NEW, extract.ThreadRole.FORWARD])
def test_below_a_header_stands_news_where_nothing_is_answered(
    header: str, thread: extract.ThreadRole
) -> None:
    body = f"Please appeal.\n\n{header}\nClaim 12 was denied.\n\n-- \nPayer"
    assert extract.extract_newest(body, thread) == body


def test_a_message_passed_on_with_marks_is_news_to_its_end() -> None:
    header = "> From: Payer <p@payer.example>\n> Subject: Denial"
    body = f"FYI\n\nBegin forwarded message:\n\n{header}\n>\n> Claim 12 was denied."
    assert extract.extract_newest(body) == body


def test_without_anything_old_no_line_is_folded() -> None:
    body = "\n".join(f"Claim {n} is open." for n in range(10_000))
    assert extract.extract_newest(body) == body


GUARDED = [
    "On Mon, Jun 30, 2025 at 9:00 AM Support <s@billing.example> wrote:\n> Shall we?\n",
    "> Shall we?\n\n-- \nJane Doe\nClinic",
    (
        "On Mon, Jun 30, 2025 at 9:00 AM Support <s@billing.example> wrote:\n> Shall we?\n\n--"
        " \nJane Doe"
    ),
    (
        "Sent from my iPhone\n\nOn Mon, Jun 30, 2025 at 9:00 AM Support <s@billing.example>"
        " wrote:\nShall we?"
    ),
    (
        "-- \nJane Doe\n\nFrom: Support <s@billing.example>\nSent: Monday\nTo: Jane\nSubject:"
        " x\n\nShall we?"
    ),
]


@pytest.mark.parametrize("body", GUARDED)
def test_a_quote_or_a_signature_is_never_shown_alone(body: str) -> None:
    assert extract.extract_newest(body) == body.strip()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.sampled_from(
            [
                *ANNOUNCEMENTS,
                *OUTLOOK,
                *DEVICES,
                "text",
                "Yes. On 1.1.2025 10:00 a@b.example wrote:",
                "> quote",
                "",
                "-- ",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from(extract.ThreadRole),
)
def test_the_shown_text_has_own_words_unless_all_is_shown(
    lines: list[str], thread: extract.ThreadRole
) -> None:
    body = "\n".join(lines)
    newest = extract.extract_newest(body, thread)
    assert newest == body.strip() or extract.has_own_words(newest)


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        (
            "<p>The payer says:</p><blockquote>Claim 12 denied</blockquote><p>Is that right?</p>",
            ["says", "Claim", "right"],
        ),
        (
            "<div><p>The payer says:</p><blockquote>Claim 12 denied</blockquote></div>",
            ["says", "Claim"],
        ),
        ("<p>See this</p><blockquote>Claim 12 denied</blockquote>", ["See", "Claim"]),
        (
            (
                '<div id="Signature">Jane</div><div id="appendonsend"></div><p>From:'
                " Payer</p><p>Denied.</p>"
            ),
            ["Jane", "Denied"],
        ),
        (
            (
                '<div class="gmail_signature">Jane</div><blockquote type="cite">Claim 12'
                " denied</blockquote>"
            ),
            ["Jane", "Claim"],
        ),
        (
            '<p>Sent from my iPhone</p><blockquote type="cite">Claim 12 denied</blockquote>',
            ["Claim"],
        ),
    ],
)
def test_words_in_html_are_shown_in_doubt(html: str, shown: list[str]) -> None:
    newest = extract.extract_newest_from_html(html)
    assert all(word in newest for word in shown)
