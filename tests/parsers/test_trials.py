"""The trials of the readers beside the project: files that others read wrong, and what is right.

As in `tests/acceptance/test_trials.py`: INTAKE_TRIALS names the folder, and a file for which
nothing is expected here fails.
"""

import os
from pathlib import Path

import pytest

import parsers
from parsers.item import Format, InboundItem
from parsers.mail import message
from parsers.mail.replies import extract

ROOT = Path(__file__).parents[2]
TRIALS = Path(os.environ.get("INTAKE_TRIALS") or ROOT.parent / "shared" / "trials")
MAILS = sorted(TRIALS.glob("reader/*.eml"))
ANSWERS = sorted([*TRIALS.glob("reader/*.txt"), *TRIALS.glob("reader/*.html")])
TABLES = sorted([*TRIALS.glob("other/*.xlsx"), *TRIALS.glob("other/*.csv")])
needs_trials = pytest.mark.skipif(
    not MAILS, reason=f"no trials in {TRIALS}: set INTAKE_TRIALS to their folder"
)

# What the newest text of a mail begins with, by the number of the file; of some another property.
TEXTS = {
    "02": "请问索赔何时到账\n",
    "04": "Überweisung für März fehlt. Grüße, Jörg Muster!",
    "10": "hello",
    "12": "hello",
    "20": "Please call me.",
    "22": "Please call me.",
    "24": "Please call me.",
    "26": "Please post the payment of the attached EOB.",
    "30": "hello",
    "40": "Error: Invalid user address",
    "42": "Duplicated Message-ID",
    "50": "Please appeal this.\n\nFrom: Payer Example",
    "80": "hello",
}
NAMES = {"10": "Müller, Eva", "12": "Müller, Eva"}
SUBJECTS = {"30": "Claim 4711"}
BOUNCES, MACHINES = {"40"}, {"40", "42"}
NEWEST = {
    "60": "Yes, claim 4711 please.",
    "62": "8.45am to 1pm works.",
    "64": "Please call me.",
    "66": "New eligibility request\n\nFrom: Sunrise Clinic\nTo: Payer X\nDate: 3/4/2026\n"
    "Claim 123 was denied, code CO-97.\nPlease appeal.",
    "68": "Sent from the clinic by fax yesterday.\nDid you get it?",
    "70": "The payer says:\n> \n> Claim 4711 denied, code CO-97\n\nIs that right?",
}
QUILL, HARBOR = "Quillfield Pediatrics", "Harbor ENT"
# Company and beginning of the text of each item, by file.
ROWS = {
    "dmy.xlsx": [(QUILL, "First."), (QUILL, "Second."), (QUILL, "Third.")],
    "eq.csv": [(QUILL, "Aetna denied claim 71.")],
    "merged-text-only.xlsx": [
        (QUILL, "Aetna denied claim 71 twice."),
        (QUILL, "Generated statements went out twice."),
        (QUILL, "Total balance of claim 12 is wrong"),
        (HARBOR, "Fax no longer works."),
    ],
    "stacked.xlsx": [(QUILL, "Aetna denied claim 71."), (HARBOR, "Fax broken.")],
    "table.xlsx": [("Quillfield", "Denied"), ("Harbor", "Fax")],
    "title.xlsx": [(QUILL, "Aetna denied claim 71.")],
    "week1.xlsx": [(QUILL, "Aetna denied"), (HARBOR, "Fax no longer works.")],
    "week2.xlsx": [("Lantern Dental", "Statement of Mr. K."), (QUILL, "ERA of 11/06")],
}
DAYS = {"dmy.xlsx": ["2026-08-03", "2026-06-26", "2026-06-10"]}


@needs_trials
@pytest.mark.parametrize("path", MAILS, ids=lambda path: path.name)
def test_a_mail_is_read_right(path: Path) -> None:
    number = path.name[:2]
    [item] = message.parse(path.read_bytes())
    assert item.reply_text.startswith(TEXTS[number])
    assert item.sender.name == NAMES.get(number, item.sender.name)
    assert item.subject == SUBJECTS.get(number, item.subject)
    assert (item.is_bounce, item.is_automated) == (number in BOUNCES, number in MACHINES)


@needs_trials
@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.name)
def test_the_newest_words_of_an_answer_are_found(path: Path) -> None:
    is_html = path.suffix == ".html"
    newest = extract.extract_newest_from_html if is_html else extract.extract_newest
    assert newest(path.read_text("utf-8")) == NEWEST[path.name[:2]]


@needs_trials
@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_the_rows_of_a_table_are_requests(path: Path) -> None:
    items = list(parsers.parse(Format.SECURE_MESSAGE, path.read_bytes()))
    requests = [item for item in items if isinstance(item, InboundItem)]
    for item, (company, beginning) in zip(requests, ROWS[path.name], strict=True):
        assert item.company == company
        assert item.text.startswith(beginning)
    if days := DAYS.get(path.name):
        assert [item.sent_at.date().isoformat() for item in requests if item.sent_at] == days
    if path.name == "eq.csv":
        [item] = requests
        assert (item.external_id, item.company_number) == ("00088211", "00471")
        assert item.phone == "5550104477"


@needs_trials
def test_questions_of_a_form_are_understood() -> None:
    path = TRIALS / "other" / "form-question-labels.txt"
    [item] = parsers.parse(Format.FORMSTACK, path.read_bytes())
    assert isinstance(item, InboundItem)
    assert (item.sender.name, item.sender.email) == ("Nora Quill", "nora@quillfield.example")
    assert item.company == QUILL
    assert "no e-mail address given" not in item.caveats
