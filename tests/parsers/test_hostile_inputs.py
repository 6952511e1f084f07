"""Hostile mail and workbooks: parsed or refused as their manifests have it, in bounded time.

The cases are no part of the project: they are looked for in INTAKE_HOSTILE, else in
../shared/hostile.
"""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from parsers.item import InboundItem, ParseError
from parsers.mail import message
from parsers.secure_message import workbook
from parsers.text import html

HOSTILE = Path(os.environ.get("INTAKE_HOSTILE") or Path(__file__).parents[3] / "shared" / "hostile")
Case = dict[str, Any]  # an entry of a manifest, as JSON gives it


def list_cases(kind: str) -> list[Any]:
    """The entries of a manifest as parameters.

    One that is skipped and says why where there is no manifest.
    """
    manifest = HOSTILE / kind / "manifest.json"
    if not manifest.is_file():
        reason = (
            f"no hostile cases in {HOSTILE / kind}: set INTAKE_HOSTILE to the folder they are in"
        )
        return [pytest.param({}, id="absent", marks=pytest.mark.skip(reason=reason))]
    entries: list[Case] = json.loads(manifest.read_text("utf-8"))["items"]
    return [pytest.param(entry, id=entry["name"]) for entry in entries]


def list_faults(item: InboundItem, expected: Case) -> list[str]:
    """Return where an item differs from what its manifest expects."""
    everything = f"{item.subject}\n{item.text}"
    return [
        *(f"lacks {words!r}" for words in expected["text_has"] if words not in everything),
        *list_unwanted_words(item, expected),
        *(
            f"has no file like {file['name_re']}"
            for file in expected["files"] or []
            if not has_file(item, file)
        ),
    ]


def list_unwanted_words(item: InboundItem, expected: Case) -> Iterator[str]:
    """Yield what an item has in text, subject or HTML, and should not have."""
    page = html.sanitise(item.html)
    yield from (f"shows {words!r}" for words in expected["text_not"] if words in item.text)
    for words in expected["subject_not"]:
        if words in item.subject:
            yield f"has {words!r} in its subject"
    for pattern in expected["page_not"]:
        if re.search(pattern, page):
            yield f"has {pattern} in its HTML"


def has_file(item: InboundItem, file: Case) -> bool:
    """Return whether an item has a file of this name and content."""
    return any(
        re.search(file["name_re"], attachment.name) and attachment.sha256 == file["sha256"]
        for attachment in item.attachments
    )


@pytest.mark.parametrize("case", list_cases("badmail"))
def test_hostile_mail_is_an_item(case: Case) -> None:
    raw = (HOSTILE / "badmail" / case["file"]).read_bytes()
    started = time.process_time()
    [item] = message.parse(raw)
    assert time.process_time() - started < case["expect"]["max_s"]
    assert list_faults(item, case["expect"]) == []


@pytest.mark.parametrize("case", list_cases("badxlsx"))
def test_a_hostile_workbook_is_read_or_refused(case: Case) -> None:
    expected, raw = case["expect"], (HOSTILE / "badxlsx" / case["file"]).read_bytes()
    start = time.process_time()
    try:
        results = workbook.parse(raw)
    except ParseError:
        results = None
    assert time.process_time() - start < expected["max_s"]
    if expected["outcome"] == "ignore":
        return  # a name no export has: the folder passes it over before anything is parsed
    rows = None if results is None else len(results)
    allowed_rows = {
        "rows": {expected["tickets"]},
        "quarantine": {None},
        "rows_or_quarantine": {None, expected["tickets"]},
    }
    assert rows in allowed_rows[expected["outcome"]]
    text = "\n".join(
        f"{item.subject}\n{item.text}\n{item.sender.name}\n{item.company}" for item in results or []
    )
    assert all(words in text for words in expected["text_has"])
    assert not any(words in text for words in expected["text_not"])
