"""Near names of practices: those that a typing error, an abbreviation or a missing word sets apart.

They are perhaps one practice, and a person decides. Names that differ in a town, a speciality or a
numeral are others. Candidates are those that share an uncommon word, or nearly; only these are
compared, with the optimal string alignment distance of RapidFuzz.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Generic, TypeVar

from rapidfuzz import process
from rapidfuzz.distance import OSA

MAX_NEAR = 3  # names that are offered: more are no help
_SHORTEST_WORD = 5  # letters; a shorter word with another character is another word
_LONG_WORD = 8  # letters, from which on two errors are taken for errors
_MOST_ERRORS = 2
_MOST_NAMES = 200  # with a word that is looked at; 10,000 practices share towns and first names
_MOST_COMPARED = 2_000  # with a name all of whose words many have: 3 ms
_NOT_NEAR = (9, 9)
_DBA = "dba"
_SMALL_WORDS = frozenset({"the", "of", "and", "a", "at", "for", "in", "dr", "doctor", "doctors"})
_FULL_WORDS = {
    "st": "saint",
    "mt": "mount",
    "ft": "fort",
    "assoc": "associate",
    "assn": "association",
    "ctr": "center",
    "cntr": "center",
    "centre": "center",
    "med": "medical",
    "ped": "pediatric",
    "paed": "pediatric",
    "paediatric": "pediatric",
    "hosp": "hospital",
    "grp": "group",
    "ortho": "orthopedic",
    "orthopaedic": "orthopedic",
    "derm": "dermatology",
    "gynaecology": "gynecology",
    "fam": "family",
    "svc": "service",
    "univ": "university",
}
# Words that many practices have in their names: they make no name near another one, and one of them
# is no typing error for another one.
_COMMON_WORDS = frozenset(
    """
    associate association center clinic practice group medical medicine health healthcare care
    family office physician service hospital wellness specialist partner institute university
    saint north south east west northern southern eastern western central upper lower new old
    pediatric cardiology dermatology ent neurology urology nephrology oncology orthopedic gynecology
    obgyn psychiatry psychology radiology surgery surgical dentistry dental dentist internal primary
    urgent women men children kid ophthalmology optometry optical eye podiatry foot ankle pain
    therapy physical rehabilitation rehab chiropractic chiropractor allergy asthma endocrinology
    gastroenterology pulmonology rheumatology vascular heart hematology immunology geriatric
    obstetric orthodontic endodontic periodontic pathology anesthesia anesthesiology spine sport
    """.split()  # noqa: SIM905  # a list to be read
)

Words = tuple[str, ...]
T = TypeVar("T")


@lru_cache(maxsize=200_000)  # the names of all companies, for each group of rows
def list_variants(form: str) -> tuple[Words, ...]:
    """Return the words that a name in normal form is compared by, each in full and singular.

    A name "X dba Y" has the variants X and Y, too.
    """
    words = form.split()
    parts = [words]
    if _DBA in words:
        at = words.index(_DBA)
        parts += [words[:at], words[at + 1 :]]
    variants = (tuple(_list_full_words(part)) for part in parts)
    return tuple(dict.fromkeys(variant for variant in variants if variant))


def _list_full_words(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))  # noqa: PLR2004
        singular = word[:-1] if is_plural else word
        if word not in _SMALL_WORDS:
            yield _FULL_WORDS.get(singular, singular)


def measure(one: Words, other: Words) -> tuple[int, int] | None:
    """Return how far two names are apart, the smaller the nearer; None when they are not near.

    The first figure is 0 for another spelling, 1 for typing errors, 2 for a missing word; the
    second counts the errors.
    """
    if one == other or "".join(one) == "".join(other):
        return 0, 0
    if abs(len(one) - len(other)) > 1:
        return None
    missing_there = [word for word in one if word not in other]
    missing_here = [word for word in other if word not in one]
    if not missing_there and not missing_here:
        return 0, 1  # other order
    if len(missing_there) == len(missing_here) == 1:
        errors = _count_errors(missing_there[0], missing_here[0])
        return (1, errors) if errors else None
    if len(missing_there) + len(missing_here) != 1:
        return None
    (missing,) = missing_there or missing_here
    # A character or a numeral tells practices of one name apart.
    if len(missing) == 1 or not missing.isalpha() or _COMMON_WORDS.issuperset({*one} & {*other}):
        return None
    return 2, 0


def _count_errors(one: str, other: str) -> int:
    """Return how many typing errors make one word of another one; 0 when it is another word."""
    shorter = min(len(one), len(other))
    if shorter < _SHORTEST_WORD or not (one + other).isalpha():
        return 0
    if one in _COMMON_WORDS and other in _COMMON_WORDS:
        return 0
    most = _MOST_ERRORS if shorter >= _LONG_WORD and one[0] == other[0] else 1
    errors = OSA.distance(one, other, score_cutoff=most)
    return errors if errors <= most else 0


@dataclass
class Nearest(Generic[T]):
    """What has the nearest names found yet, and how far these are (`measure`)."""

    distance: tuple[int, int] = _NOT_NEAR
    values: list[T] = field(default_factory=list)

    def add(self, distance: tuple[int, int] | None, value: T) -> None:
        """Take a name at this distance in, unless a nearer one is known."""
        if distance is None or distance > self.distance:
            return
        if distance < self.distance:
            self.distance, self.values = distance, []
        if value not in self.values:
            self.values.append(value)


class NearNames(Generic[T]):
    """An index of names in normal form, by which near ones are found."""

    def __init__(self) -> None:
        self._by_joined: dict[str, list[tuple[Words, T]]] = defaultdict(list)
        self._by_word: dict[str, list[tuple[Words, T]]] = {}
        # Words by their first and by their last two letters: an error leaves one of these as it is.
        self._words_by_ends: dict[str, list[str]] = defaultdict(list)

    def add(self, form: str, value: T) -> None:
        """Add a name in normal form, and what it is the name of."""
        for words in list_variants(form):
            entry = (words, value)
            self._by_joined["".join(words)].append(entry)
            for word in _list_uncommon(words):
                entries = self._by_word.get(word)
                if entries is None:
                    entries = self._by_word[word] = []
                    for ends in _list_ends(word):
                        self._words_by_ends[ends].append(word)
                entries.append(entry)

    def find(self, form: str, without: T | None = None) -> Nearest[T]:
        """Find what has a name near to this one, in the order they were added.

        Without one thing, where it is the name of this one.
        """
        nearest: Nearest[T] = Nearest()
        for words in list_variants(form):
            for entries in self._list_candidates(words):
                for other, value in entries:
                    if value != without:
                        nearest.add(measure(words, other), value)
        return nearest

    def _list_candidates(self, words: Words) -> list[list[tuple[Words, T]]]:
        """List the entries that have a word of a name, or one with typing errors.

        Words that too many names have are left out, unless all are such.
        """
        by_word: list[list[tuple[Words, T]]] = []
        for word in _list_uncommon(words):
            by_word += [self._by_word[other] for other in self._list_alike(word)]
        by_word.sort(key=len)
        chosen = [entries for entries in by_word if len(entries) <= _MOST_NAMES]
        if not chosen and by_word:
            chosen = [by_word[0][:_MOST_COMPARED]]
        return [self._by_joined.get("".join(words), []), *chosen]

    def _list_alike(self, word: str) -> Iterator[str]:
        """Yield the words of the index that are a word, or one with typing errors."""
        if word in self._by_word:
            yield word
        if len(word) < _SHORTEST_WORD - 1:
            return
        first, last = (self._words_by_ends.get(ends, ()) for ends in _list_ends(word))
        alike: set[str] = set()
        for words in (first, last):
            found = process.extract(
                word, words, scorer=OSA.distance, score_cutoff=_MOST_ERRORS, limit=None
            )
            alike.update(other for other, _, _ in found)
        yield from (other for other in sorted(alike) if _count_errors(word, other))


class NamesOnRecord:
    """The index of the names in the database, kept up to date with little work.

    Filing a workbook asks for it with each group of rows, and most names are the same as before.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._names: dict[int, str] = {}
        self._index: NearNames[int] = NearNames()

    def find(self, names: dict[int, str], form: str, without: int | None = None) -> Nearest[int]:
        """Find the ids of the names near to this one; `names` are all names on record, by id."""
        with self._lock:
            if names is not self._names:
                self._update(names)
            return self._index.find(form, without)

    def _update(self, names: dict[int, str]) -> None:
        if not self._names.items() <= names.items():  # some are gone, or have changed
            self._names, self._index = {}, NearNames()
        for number, name in names.items():
            if number not in self._names:
                self._index.add(name, number)
        self._names = names


def _list_uncommon(words: Words) -> Words:
    """Return the words that few practices have in their names; all where there is none."""
    return tuple([word for word in words if word not in _COMMON_WORDS]) or words


def _list_ends(word: str) -> tuple[str, str]:
    return f"{word[:2]}-", f"-{word[-2:]}"
