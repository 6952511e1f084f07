"""A parser process whose mail parser does what the mail says: for test_parsing."""

import ctypes
import os
import pickle
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import parsers
from ingest.processing import frames, parser_process
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


class Exploit:
    """Once unpickled, it has run a command."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


def answer_with_pickle(raw: bytes) -> None:
    """Answer as a parser that was taken over: with an object that runs what the mail says."""
    command = raw.rpartition(b"run: ")[2].decode().strip()
    frames.encode_answer = lambda _: pickle.dumps(Exploit(command))


def announce_much() -> None:
    """Answer with the length of a frame that no memory holds."""
    frames.build_head = lambda _: (2**62).to_bytes(8)


DEEDS: dict[bytes, Any] = {
    b"crash": lambda: ctypes.string_at(0),
    b"hoard": hoard,
    b"spin": spin,
    b"sleep": lambda: time.sleep(3600),
    b"exit": lambda: os._exit(0),
    b"noisy": print_noise,
    b"much": announce_much,
}


def parse_poisoned_mail(raw: bytes, options: Options) -> list[InboundItem]:
    if b"poison: options" in raw:
        text = f"{options.time_zone}, {len(options.passwords)} passwords"
        return [replace(item, text=text) for item in message.parse(raw)]
    if b"poison: nul" in raw:
        return [replace(item, text="no\0 database takes \ud800") for item in message.parse(raw)]
    if b"poison: pickle" in raw:
        answer_with_pickle(raw)
    for word, deed in DEEDS.items():
        if b"poison: " + word in raw:
            deed()
    if b"poison: bug" in raw:
        raise RuntimeError("Jane Roe, born 1970")
    return message.parse(raw)


if __name__ == "__main__":
    parsers.PARSERS[Format.MAIL] = parse_poisoned_mail  # type: ignore[index]  # as a test's monkeypatch does
    parser_process.main()
