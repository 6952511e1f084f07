"""The check for patient data finds it and leaves ordinary billing words alone."""

import time

import pytest

from workflow.mail.phi_check import (
    KnownPatientData,
    PatientDataKind,
    collect_known_data,
    find_patient_data,
    find_patient_data_in_subject,
    split_by_finding,
)

B, S, R, M, D, N = (
    PatientDataKind.BIRTH,
    PatientDataKind.SSN,
    PatientDataKind.RECORD,
    PatientDataKind.MEMBER,
    PatientDataKind.DIAGNOSIS,
    PatientDataKind.NAME,
)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("DOB: 04/12/1961", [B]),
        ("d.o.b. 4-12-61", [B]),
        ("her date of birth is April 12, 1961", [B]),
        ("born on 12 Apr 1961", [B]),
        ("Birthdate (1961-04-12)", [B]),
        ("123-45-6789", [S]),
        ("SSN ending in 6789 no; SSN 6789", [S]),
        ("social security number: 123456789", [S]),
        ("MRN 0012345", [R]),
        ("Medical record number A-12345", [R]),
        ("Patient ID #AB99121", [R]),
        ("patient account 778812", [R]),
        ("chart no. 44120", [R]),
        ("Member ID: XEA123456789", [M]),
        ("subscriber # W1234 56", [M]),
        ("policy 99887766", [M]),
        ("Medicare number is 1EG4-TE5-MK73", [M]),
        ("1EG4TE5MK73", [M]),
        ("diagnosis code M54.5 was denied", [D]),
        ("ICD-10: J45.909", [D]),
        ("dx E11", [D]),
        ("Patient: Jane Doe", [N]),
        ("the patient Mrs. Jane Q. Doe called", [N]),
        ("Patient name is Doe, Jane", [N]),
        ("patient's name: Jane O'Neil", [N]),
        ("DOB 04/12/1961, MRN 0012345, Patient: Jane Doe", [B, R, N]),
    ],
)
def test_what_looks_like_patient_data_is_found(text: str, kinds: list[PatientDataKind]) -> None:
    assert [f.kind for f in find_patient_data(text)] == kinds


ORDINARY = (
    (
        "Hello Ann,\n\nthe claim for date of service 03/02/2026 was filed again on 3/9/2026. Claim"
        " number 22026061234567."
    ),
    "Please call us at (555) 123-4567 or 555-123-4567, fax 1-800-555-0100, extension 4711.",
    (
        "The ERA of 2026-03-01 with check number 0012345678 for $1,234.56 was posted; trace"
        " 91000019885454."
    ),
    "Your NPI 1234567893 and tax ID 12-3456789 are on file. ZIP 10001-1234.",
    (
        "We resubmitted 14 claims with CPT 99213 and modifier 25, place of service 11. Denial code"
        " CO-16, remark N290."
    ),
    (
        "The Patient Portal shows the Patient Statement and Patient Responsibility. Patient Balance"
        " is 0."
    ),
    (
        "Ticket number: 4711. Where it stands:"
        " https://desk.example/status/4711-0a1b2c3d4e5f60718293a4b5"
    ),
    (
        "New policy of 2026: the payer's policy on modifier 59 changed in 2026. Medicare's policy"
        " is at page 1234."
    ),
    (
        "We need the patient's insurance card; please upload it in Kareo. Do not send patient data"
        " by e-mail."
    ),
    (
        "The member services line of the payer, 1-877-842-3210, says the group number 0098765 is"
        " active."
    ),
    (
        "Version A10.5 of the form; room B12.3; see Table C4.1. Your invoice INV-2026-00417 is due"
        " 04/30/2026."
    ),
    "The diagnosis pointer was missing on line 2, so the claim was denied. We added it.",
    (
        "The chart of 2025 shows 1200 encounters; the medical record of each must be signed."
        " Patient no. 3 of 12."
    ),
    (
        "Mrs. Lee, thank you for calling. The birthday rule decides which plan pays first."
        " Insurance 2026 rates changed."
    ),
    (
        "Patient called about billing. Patient Billing will answer. Patients Who Pay late get"
        " Reminders."
    ),
)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_billing_words_raise_no_alarm(text: str) -> None:
    assert [text[f.start : f.end] for f in find_patient_data(text)] == []


KNOWN = collect_known_data(
    [
        ("Patient Name", "Zebulon Q. Quackenbush"),
        ("Patient", "Roe, Jane"),
        ("DOB", "1961-04-12"),
        ("Member ID", "XEA 123456"),
        ("Patient ID", "99121"),
        ("Practice", "Sunrise Clinic"),
        ("Name", "Ann Example"),
        ("Patient", "Ann Example"),
        ("Patient?", "yes"),
        ("Is the patient insured", "12"),
        ("Date of service", "2026-03-02"),
    ],
    ["Re: FW: Denied claim of Z. Quackenbush", "Question", ""],
    other_names=["Example, Ann"],
)


def test_what_a_ticket_says_of_patients_is_known() -> None:
    assert KNOWN.names == {"Zebulon Q. Quackenbush", "Roe, Jane"}
    assert KNOWN.values == {(B, "1961-04-12"), (M, "XEA 123456"), (R, "99121")}
    assert KNOWN.subjects == {"Denied claim of Z. Quackenbush", "Question"}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Zebulon Quackenbush is paid", [N]),
        ("zebulon q. quackenbush", [N]),
        ("QUACKENBUSH, ZEBULON", [N]),
        ("Mr. Quackenbush's claim", [N]),
        ("Jane\nRoe", [N]),
        ("Jane M. Roe", [N]),
        ("Roe's claim", [N]),
        ("number 99121 and 1961-04-12", [R, B]),
        ("xea  123456", [M]),
        ("about “denied claim of z. quackenbush”", [PatientDataKind.SUBJECT]),
        ("Jane did it; the roe deer", []),
        ("yes, a question", []),
        ("1991219", []),
        ("Ann Example", []),
    ],
)
def test_the_tickets_own_patients_are_found_word_for_word(
    text: str, kinds: list[PatientDataKind]
) -> None:
    assert [f.kind for f in find_patient_data(text, KNOWN)] == kinds


def test_a_subject_of_two_words_counts_in_the_subject_only() -> None:
    known_data = KnownPatientData(subjects=frozenset({"Denied claim"}))
    assert find_patient_data("a denied claim is filed again", known_data) == []
    assert [f.kind for f in find_patient_data_in_subject("Re: Denied claim", known_data)] == [
        PatientDataKind.SUBJECT
    ]
    assert find_patient_data_in_subject("Billing Support Ticket #7", known_data) == []


def test_the_marked_text_is_the_text() -> None:
    text = "For Jane: DOB 04/12/1961, SSN 123-45-6789.\n"
    pieces = list(split_by_finding(text, find_patient_data(text)))
    assert "".join(piece for piece, _ in pieces) == text
    assert [kind for _, kind in pieces if kind] == [B, S]
    assert list(split_by_finding("nothing", [])) == [("nothing", "")]


@pytest.mark.parametrize(
    "words", ["Patient ", "diagnosis ", "a", "1-", "Roe, ", "dob\n", "A1", "policy : "]
)
def test_time_grows_with_the_length_of_a_text_and_not_with_its_square(words: str) -> None:
    """Compared with a shorter text, because seconds depend on the machine."""
    short_text, long_text = (words * (length // len(words)) for length in (10_000, 100_000))
    assert find_patient_data(long_text, KNOWN) == []
    seconds = min(measure_seconds(short_text) for _ in range(5))
    assert measure_seconds(long_text) < 30 * seconds  # the square would be 100 times as long


def measure_seconds(text: str) -> float:
    """Return the processor time of a search."""
    start = time.process_time()
    find_patient_data(text, KNOWN)
    return time.process_time() - start
