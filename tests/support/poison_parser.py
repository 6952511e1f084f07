"""A parser process whose mail parser does what the mail says: for test_parsing."""

import ctypes
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import parsers
from ingest.processing import parser_process
from parsers.item import Format, InboundItem
from parsers.mail import message
from parsers.options import Options


def hoard() -> None:
    held = []
    while True:
        held.append(bytearray(16 * 1024 * 1024))


def spin() -> None:
    while True:
        pass


def print_noise() -> None:
    os.write(1, b"a library's warning")
    sys.stdout.write("another")


DEEDS: dict[bytes, Any] = {
    b"crash": lambda: ctypes.string_at(0),
    b"hoard": hoard,
    b"spin": spin,
    b"sleep": lambda: time.sleep(3600),
    b"exit": lambda: os._exit(0),
    b"noisy": print_noise,
}


def parse_poisoned_mail(raw: bytes, options: Options) -> list[InboundItem]:
    if b"poison: options" in raw:
        text = f"{options.time_zone}, {len(options.passwords)} passwords"
        return [replace(item, text=text) for item in message.parse(raw)]
    if b"poison: nul" in raw:
        return [replace(item, text="no\0 database takes \ud800") for item in message.parse(raw)]
    for word, deed in DEEDS.items():
        if b"poison: " + word in raw:
            deed()
    if b"poison: bug" in raw:
        raise RuntimeError("Jane Roe, born 1970")
    return message.parse(raw)


if __name__ == "__main__":
    parsers.PARSERS[Format.MAIL] = parse_poisoned_mail  # type: ignore[index]  # as a test's monkeypatch does
    parser_process.main()
