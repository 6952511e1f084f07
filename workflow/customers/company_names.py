"""Names of practices: the normal form in which they are compared, and how near two names are.

The same practice is written in many ways: with and without its legal form, with `&` or `and`, in
capitals, with dots or accents. Names of one normal form are one practice. Names that are only near
each other, by a typing error or a missing word, are perhaps one: a person decides.
"""

import re
import unicodedata
from functools import lru_cache

MAX_KEY = 400  # characters, the length of the column companies.key
_MAX_GIVEN = 2_000  # characters of a name that are looked at

# Legal forms, as words at the end of a name.
_LEGAL_FORMS = frozenset(
    """
    inc incorporated corp corporation co company ltd limited llc pllc llp lllp pc apc pa psc plc
    dba gmbh mbh kg ag ug sarl sas bv nv pty srl
    """.split()  # noqa: SIM905  # a list to be read
)
# Words that belong to the legal form behind them, such as "professional limited liability company".
_BEFORE_LEGAL_FORMS = frozenset({"and", "professional", "liability", "a"})
_PROFESSIONAL_ASSOCIATION = ["professional", "association"]
# What stands in the column or field of the practice and names none: totals of a sheet, and words
# for an empty value.
_NO_NAMES = re.compile(
    r"(?:(?:grand|sub|report|overall|sheet|page)? ?totals?|totale|totaal|sous total|sum|summe"
    r"|gesamt|gesamtsumme|zwischensumme|insgesamt|suma|somme|none|null|unknown|n a|na|nan|tbd)"
    r"(?: \d+)*"
)
_ACCENTS = re.compile(r"[\u0300-\u036f]")
# Letters that Unicode does not split into a plain character and an accent.
_PLAIN_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "\u0131": "i"})
_APOSTROPHES = re.compile("['\u2019\u2018`\u00b4\u02bc]")
# Abbreviations with dots or strokes between single letters: P.C., L. L. C., d/b/a
_ABBREVIATION = re.compile(r"\b[^\W\d_](?:[./] ?[^\W\d_])+\b")


def remove_invisible(text: str) -> str:
    """Return a text without characters that show nothing: soft hyphens, marks of direction.

    By them two names, or two numbers, would look alike and differ.
    """
    if text.isprintable():
        return text
    return "".join(char for char in text if unicodedata.category(char) != "Cf")


def clean(name: str) -> str:
    """Return a name as it is stored: of one line, without invisible characters."""
    return " ".join(remove_invisible(name[:_MAX_GIVEN]).split())[:MAX_KEY]


def fold(name: str) -> str:
    """Return a name folded by case, Unicode form, punctuation and spacing alone."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(re.sub(r"[^\w&]+", " ", folded).split())[:MAX_KEY]


@lru_cache(maxsize=4096)  # a workbook names the same few hundred practices in every row
def normalize(name: str) -> str:
    """Return the normal form of a practice's name; "" when it names no practice, such as "Total".

    Case, accents, punctuation, spacing, `&` for `and`, and legal forms at the end do not matter.
    Example: `Quillfield Pediatrics, P.C.` and `QUILLFIELD PEDIATRICS` are `quillfield pediatrics`.
    """
    plain = unicodedata.normalize("NFKC", remove_invisible(name[:_MAX_GIVEN]))
    plain = plain.casefold().translate(_PLAIN_LETTERS)
    plain = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", plain)))
    plain = _APOSTROPHES.sub("", plain)
    plain = _ABBREVIATION.sub(lambda match: re.sub(r"[./ ]", "", match[0]), plain)
    words = re.sub(r"[\W_]+", " ", re.sub(r"[&+]", " and ", plain)).split()
    form = " ".join(_strip_legal_forms(words))[:MAX_KEY].strip()
    return "" if _NO_NAMES.fullmatch(form) else form


def _strip_legal_forms(words: list[str]) -> list[str]:
    """Return the words of a name without the legal forms at its end, at least its first word."""
    end = len(words)
    while end > 1 and (count := _count_legal_words(words[:end], is_last=end == len(words))):
        end -= count
    if end < len(words) and words[:end] in (["the"], ["and"]):
        return words  # nothing of the name would be left
    return words[:end]


def _count_legal_words(words: list[str], *, is_last: bool) -> int:
    """Return how many words at the end of a name are one legal form, or stand before one.

    `is_last` says that nothing has been taken away behind them.
    """
    letters = _count_spelled_letters(words)
    if letters and len(words) > letters:
        return letters
    if words[-1] in _LEGAL_FORMS:
        return 1
    count = len(_PROFESSIONAL_ASSOCIATION)
    if len(words) > count and words[-count:] == _PROFESSIONAL_ASSOCIATION:
        return count
    return int(not is_last and words[-1] in _BEFORE_LEGAL_FORMS)


def _count_spelled_letters(words: list[str]) -> int:
    """Return how many words at the end are the letters of a legal form, as in `P C`; else 0."""
    for length in (4, 3, 2):
        last = words[-length:]
        if all(len(word) == 1 for word in last) and "".join(last) in _LEGAL_FORMS:
            return length
    return 0
