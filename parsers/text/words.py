"""Comparison of two texts by their words, whatever the order, case, layout and punctuation."""

import re
import unicodedata

# A run of word characters; in scripts without blanks each character is a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_INVISIBLE = re.compile("[\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff]")


def split_words(text: str) -> frozenset[str]:
    """Return the different words of a text."""
    # No word crosses a blank: what stands between blanks twice is split once.
    return _split_runs(set(text.split()))


def _split_runs(runs: set[str]) -> frozenset[str]:
    """Return the different words of runs of characters without blanks."""
    text = " ".join(runs)
    if text.isascii():
        return frozenset(_ASCII_WORD.findall(text.lower()))
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))
    return frozenset(_WORD.findall(text.casefold()))


def find_words_only_in(text: str, other: str) -> frozenset[str]:
    """Return the words of a text that another one lacks."""
    other_runs = set(other.split())
    runs = set(text.split()) - other_runs
    # Two forms of one mail share nearly all runs, and mostly all of them.
    return _split_runs(runs) - _split_runs(other_runs) if runs else frozenset()


def find_lines_with(words: frozenset[str], text: str) -> str:
    """Return the lines of a text that have any of some words."""
    return "\n".join(line for line in text.split("\n") if not words.isdisjoint(split_words(line)))
