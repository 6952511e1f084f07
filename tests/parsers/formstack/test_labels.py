"""Labels of forms that are sentences or HTML, and answers that no label explains."""

import json
from itertools import permutations

import pytest

from parsers.formstack import submission
from parsers.formstack.field_labels import clean_label, find_field, find_field_by_words
from parsers.item import InboundItem
from parsers.secure_message.headings import HEADINGS_BY_FIELD
from parsers.text import normalize, vocabulary

LABELS = {
    "email": [
        "What is your email address?",
        "Your e-mail (we will answer there)",
        "E-Mail Address for our reply",
        "Which email can we reach you at?",
        "Email address of the person submitting this form",
        "Please enter a valid email",
        "Confirm email address",
        "May we have your email address?",
    ],
    "phone": [
        "What is the best number to reach you?",
        "Phone number (with extension)",
        "At what phone can we call you back?",
        "Cell phone or mobile",
        "Best telephone number for a callback",
        "How can we reach you by phone?",
        "What number should we call?",
    ],
    "company": [
        "What is the name of your practice?",
        "Practice Name<br>",
        "Which clinic are you with?",
        "<b>Name of practice / clinic</b>",
        "Practice you are calling from",
        "Name of your medical group",
        "Please select your practice",
        "Organization you work for",
        "Provider / Practice name",
    ],
    "company_number": [
        "What is your Kareo practice ID?",
        "Practice number (if known)",
        "Your customer number with us",
        "What's your account number?",
        "ID of your practice",
    ],
    "name": [
        "Who is submitting this request?",
        "What is your name?",
        "Your full name",
        "First and last name",
        "Name of person completing this form",
        "Who should we contact?",
        "Your contact person",
        "Submitted by (name)",
        "Your name and title",
        "Please identify yourself",
    ],
    "first_name": ["What is your first name?"],
    "last_name": ["Your last name, please"],
    "description": [
        "Please describe your billing issue in detail (no patient names)",
        "How can we help you today?",
        "What is your question?",
        "Tell us what happened",
        "Explain the problem with your practice's claims, with phone number",
        "Describe the issue your practice is facing",
        "Could you please describe your concern?",
        "Your message to us",
    ],
    "category": ["What type of issue is this?", "Category of your request", "Type of problem"],
    "subject": ["What is this about?", "Subject of your inquiry"],
    "": [
        "Should we answer by email?",
        "Preferred contact method (email or phone)",
        "How many providers are in your practice?",
        "Number of claims affected",
        "Provider's email",
        "Patient name",
        "Patient phone number",
        "Insurance company",
        "Supervisor's e-mail address",
        "Address of your practice",
        "When did you call us?",
        "Is your practice closed on Fridays?",
        "Date of service",
        "Name of the insurance",
        "Tax ID of the practice",
        "Practice TIN",
        "User name",
        "Practice specialty",
    ],
}


@pytest.mark.parametrize(
    ("label", "field"), [(label, field) for field, labels in LABELS.items() for label in labels]
)
def test_a_label_that_is_a_sentence_means_a_field(label: str, field: str) -> None:
    plain = clean_label(label)
    assert (find_field(plain) or find_field_by_words(plain)) == field
    for variant in (plain.upper(), f"{plain} *", f"<p>{plain}</p>", f"{plain} (required)"):
        again = clean_label(variant)
        assert (find_field(again) or find_field_by_words(again)) == field


def read(answers: dict[str, object]) -> InboundItem:
    body = {"FormID": "7", "UniqueID": "1", **answers}
    (item,) = submission.parse(json.dumps(body).encode())
    return item


ASKED = {
    "What is your email address?": "jo@elm.example",
    "Practice Name<br>": "Elm Dental",
    "Who is filling in this form?": "Jo Elm",
    "Please describe the issue": "The remittance is missing",
    "Best number to call you back": "(555) 010-1234",
}


@pytest.mark.parametrize("order", [*permutations(ASKED)][::17])
def test_the_order_of_the_questions_changes_nothing(order: tuple[str, ...]) -> None:
    item = read({label: ASKED[label] for label in order})
    assert (item.sender.name, item.sender.email) == ("Jo Elm", "jo@elm.example")
    assert (item.company, item.phone) == ("Elm Dental", "(555) 010-1234")
    assert item.text.startswith("Please describe the issue: The remittance is missing")
    assert "Practice Name: Elm Dental" in item.text
    assert (item.caveats, item.details) == ((), ())


def test_a_plain_label_goes_before_a_sentence() -> None:
    item = read({"Which email does the payer know?": "x@payer.example", "Email": "jo@elm.example"})
    assert item.sender.email == "jo@elm.example"
    item = read({"Name": "Jo", "Who referred you?": "Sam", "Whose email is it": "a@b.example"})
    assert item.sender.name == "Jo"


@pytest.mark.parametrize(
    ("label", "answer", "email", "caveat"),
    [
        ("Where shall we send it?", "jo@elm.example", "jo@elm.example", submission.GUESSED_EMAIL),
        ("Q7", "jo@elm.example", "jo@elm.example", submission.GUESSED_EMAIL),
        ("Q7", "write to jo@elm.example please", "", submission.OTHER_EMAIL),
        ("Supervisor", "jo@elm.example", "", submission.OTHER_EMAIL),
        ("Message", "write to jo@elm.example", "", submission.OTHER_EMAIL),
        ("Q7", "nothing", "", normalize.NO_EMAIL),
    ],
)
def test_the_caveat_on_the_address_is_true(
    label: str, answer: str, email: str, caveat: str
) -> None:
    item = read({label: answer})
    assert item.sender.email == email
    assert [c for c in item.caveats if "e-mail" in c] == [caveat]


def test_two_addresses_of_nobody_known_are_nobody_s() -> None:
    item = read({"Q7": "jo@elm.example", "Q8": "sam@oak.example"})
    assert item.sender.email == ""
    assert submission.OTHER_EMAIL in item.caveats


@pytest.mark.parametrize(
    ("label", "answer", "phone", "caveat"),
    [
        ("Q3", "555-010-1234", "555-010-1234", submission.GUESSED_PHONE),
        ("Fax", "555-010-1234", "", submission.OTHER_PHONE),
        ("Message", "call (555) 010-1234", "", submission.OTHER_PHONE),
        ("Q3", "5550101234", "", submission.NO_PHONE),
    ],
)
def test_the_caveat_on_the_phone_is_true(label: str, answer: str, phone: str, caveat: str) -> None:
    item = read({label: answer})
    assert item.phone == phone
    assert [c for c in item.caveats if "phone" in c] == [caveat]


def test_a_type_does_not_make_somebody_else_the_sender() -> None:
    item = read({"Provider's contact": {"value": "dr@elm.example", "field_type": "email"}})
    assert item.sender.email == ""
    item = read({"Q1": {"value": "Long story", "field_type": "textarea"}, "Q0": "x"})
    assert item.text.startswith("Q1: Long story")


def test_forms_and_workbooks_share_their_words() -> None:
    for field, words in {
        "company": vocabulary.COMPANY,
        "company_number": vocabulary.COMPANY_NUMBER,
        "email": vocabulary.EMAIL,
        "phone": vocabulary.PHONE,
    }.items():
        assert set(words) <= set(HEADINGS_BY_FIELD[field])
        assert {find_field(word) for word in words} == {field}
