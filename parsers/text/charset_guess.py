"""Guess of the charset of bytes without a label that can be trusted, by the letters they give.

Each candidate is a charset together with a language's letters. The bytes are decoded by each, and
the logarithms of how probable its characters are, are added up: a common hanzi is far likelier than
the two accented letters that the same bytes are in Windows-1252, and an accented character between
ASCII letters is far likelier than a rare hanzi that swallows one of them.
"""

# ruff: noqa: RUF001, PLR2004 - letters of many languages; rows of code tables are in the standards

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import log

SAMPLE_BYTES = 2048  # more text adds nothing to the certainty; each candidate decodes it
# Logarithm of how much likelier the best charset has to be than the next: 1 in 20 would be wrong.
MARGIN = 3.0
# A Western reading below this for each of its characters above ASCII is none: runs of accented
# letters and symbols without letters between them.
IMPLAUSIBLE = -8.0
# The same for a character of the other charsets: below it all of them are wrong.
UNLIKELY = {"latin": -6.5, "alphabet": -7.0, "ideographs": -11.0}

ASCII = -3.0  # any ASCII character: the same for all candidates
BROKEN = -25.0  # a byte the charset has no character for
FOREIGN = -9.0  # a character the language does not use
COMMON, USUAL, RARE, UNUSED = -5.9, -9.0, -12.6, -15.0  # of thousands of hanzi
PUNCTUATION = -5.0
FREQUENT = 10  # letters of an alphabet that make up some two thirds of a text

_SIMPLIFIED = frozenset(
    "的一是不了在人有我他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家"
    "学对可她里后小么心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见"
    "经头面公同三已老从动两长知民样现分将外但身些与高意进把法此实回二理美点月明其种声全工己话"
    "儿者向情部正名定女问力机给等几很业最间新什打便位因重被走电四第门相次东政海口使教西再平真"
    "听世气信北少关并内加化由却代军产入先山五太水万市眼体别处总才场师书比住员九笑性通目华报"
    "立马命张活难神数件安表原车白应路期叫死常提感金何更反合放做系计或司利受光王果亲界及今京务"
    "制解各任至清物台象记边共风战干接它许八特觉望直服毛林题建南度统色字请爱让认算论百吃义科怎"
    "元社术结六功指思非流每青管夫连远资队跟带花快条院变联言权往展该领传近留红治决周保达办运武"
    "半候七必城父强步完革深区即求品士转量空甚众技轻程告江语英基派满式李息写呢识极令黄德收脸"
    "钱党倒未持取设始版双历越史商千片容研像找友孩站广改议形委早房音火际则首单据导影失拿网香似"
    "斯专石若兵弟谁校读志飞观争究包组造落视济喜离虽坏款费账单赔付索诊所病患者保险客您谢帮助"
    "复邮件附查收号码申拒绝",
)
_TRADITIONAL = frozenset(
    "的一是不了在人有我他這中大來上國個到說們為子和你地出道也時年得就那要下以生會自著去之過家"
    "學對可她里後小麼心多天而能好都然沒日於起還發成事只作當想看文無開手十用主行方又如前所本見"
    "經頭面公同三已老從動兩長知民樣現分將外但身些與高意進把法此實回二理美點月明其種聲全工己話"
    "兒者向情部正名定女問力機給等幾很業最間新什打便位因重被走電四第門相次東政海口使教西再平真"
    "聽世氣信北少關並內加化由卻代軍產入先山五太水萬市眼體別處總才場師書比住員九笑性通目華報"
    "立馬命張活難神數件安表原車白應路期叫死常提感金何更反合放做系計或司利受光王果親界及今京務"
    "制解各任至清物台象記邊共風戰干接它許八特覺望直服毛林題建南度統色字請愛讓認算論百吃義科怎"
    "元社術結六功指思非流每青管夫連遠資隊跟帶花快條院變聯言權往展該領傳近留紅治決周保達辦運武"
    "半候七必城父強步完革深區即求品士轉量空甚眾技輕程告江語英基派滿式李息寫呢識極令黃德收臉"
    "錢黨倒未持取設始版雙歷越史商千片容研像找友孩站廣改議形委早房音火際則首單據導影失拿網香似"
    "斯專石若兵弟誰校讀志飛觀爭究包組造落視濟喜離雖壞款費帳單賠付索診所病患者保險客您謝幫助"
    "復郵件附查收號碼申拒絕灣陳林灣",
)
_HANGUL = frozenset(
    "이다는을의에가고한지하를은니도로사어서기리아그자대나수있해시인게들부일정보전라과제스주장"
    "상면원구적여만우세안으조러마요성까공무음경습합동와선내비신때것없년소모문국오용치계연진"
    "물당실위생려처오발방말입단할중유야분양관금던된재회개저화같번건김박최간호행감사드안녕세요"
    "님청구답변부탁메일확인병원보험료환급결제송내역거절문의전화연락바랍주시월일질받됩되드립",
)
_KANJI = frozenset(
    "日一国人年大十二本中長出三時行見月分後前生五間上東四今金九入学高円子外八六下来気小七山"
    "話女北午百書先名川千水半男西電校語土木聞食車何南万毎白天母火右読友左休父雨会社員様請求"
    "確認送付返信願致保険診療病院料支払明細問合連絡担当者田村藤佐鈴高橋事業部文章件御世処理"
    "対応予定内容変更方法場手用新通自動報告取発度的地代理全体同要性",
)
_HIRAGANA_COMMON = frozenset("のにはをたがでてとしれさいるすかなもりまこくおせうけらんっきよ")
_JAPANESE_MARKS = frozenset("ーー、。・「」！？（）　：")
_FULL_WIDTH_MARKS = frozenset("，。、？！：；（）《》「」“”‘’…—　·")


def _rate_chinese(char: str, codec: str, common: frozenset[str]) -> float:
    """Return the logarithm of how probable a character is in Chinese, by its row in the code."""
    if char in common:
        return COMMON
    if char in _FULL_WIDTH_MARKS:
        return PUNCTUATION
    code = char.encode(codec, "ignore")
    if len(code) != 2:
        return UNUSED if len(code) == 4 else BROKEN
    lead, trail = code
    if codec == "gb18030":
        # GB 2312: level 1 is rows 16 to 55 (3,755 by sound), level 2 rows 56 to 87 (3,008).
        if trail < 0xA1 or lead < 0xA1:
            return UNUSED
        return USUAL if 0xB0 <= lead <= 0xD7 else RARE
    # Big5: level 1 is A440 to C67E (5,401 characters), level 2 C940 to F9D5 (7,652).
    return USUAL if b"\xa4\x40" <= code <= b"\xc6\x7e" else RARE


def _rate_simplified(char: str) -> float:
    return _rate_chinese(char, "gb18030", _SIMPLIFIED)


def _rate_traditional(char: str) -> float:
    return _rate_chinese(char, "cp950", _TRADITIONAL)


def _rate_korean(char: str) -> float:
    """Return the logarithm of how probable a character is in Korean, which writes few hanja."""
    if char in _HANGUL:
        return -5.4
    if not "가" <= char <= "힣":
        return PUNCTUATION if char in _FULL_WIDTH_MARKS else RARE
    code = char.encode("cp949", "ignore")
    # The syllables of KS X 1001 are in rows 16 to 40; those of Microsoft's extension are rare.
    return -9.2 if len(code) == 2 and code[1] >= 0xA1 and 0xB0 <= code[0] <= 0xC8 else UNUSED


def _rate_japanese(char: str) -> float:
    """Return the logarithm of how probable a character is in Japanese, in any of its scripts."""
    if char in _HIRAGANA_COMMON:
        return -4.2
    if char in _JAPANESE_MARKS:
        return PUNCTUATION
    if "ぁ" <= char <= "ん":
        return -6.0
    if "ァ" <= char <= "ヶ":
        return -6.5
    if "\uff61" <= char <= "\uff9f":  # of one byte: a run of them is another charset
        return -8.0
    if char in _KANJI:
        return -7.0
    code = char.encode("cp932", "ignore")
    if len(code) != 2:
        return UNUSED
    # JIS X 0208: level 1 is rows 16 to 47 (2,965 characters), in Shift_JIS 889F to 9872.
    return -9.3 if b"\x88\x9f" <= code <= b"\x98\x72" else RARE


def _make_letters(common: str, rest: str = "") -> Callable[[str], float]:
    """Return a rating of the characters above ASCII of a language that is written in Latin.

    The fewer such letters a language has, the likelier is each of them.
    """
    usual = -1.0 - log(len(common))

    def rate(char: str) -> float:
        lower = char.lower()
        if char in "“”‘’–—…•„‚«»\xa0":
            return -4.5
        if char in "€£©®°§™·´":
            return -6.5
        if char in "¼½¾×÷±²³¹µ":
            return -7.5
        if lower in common:
            return usual if char == lower else usual - 2
        if lower in rest:
            return -6.0 if char == lower else -8.0
        return FOREIGN if char.isalpha() else FOREIGN - 1

    return rate


def _make_alphabet(common: str, rest: str, marks: str = "") -> Callable[[str], float]:
    """Return a rating of the characters above ASCII of a language with a script of its own.

    The letters stand in the order of their frequency.
    """

    def rate(char: str) -> float:
        lower = char.lower()
        if char in "“”‘’–—…«»№\xa0" or char in marks:
            return -5.0
        if lower in common:
            usual = -2.4 if common.index(lower) < FREQUENT else -3.2
            return usual if char == lower else usual - 2.3
        if lower in rest:
            return -4.5 if char == lower else -6.8
        return FOREIGN - 2

    return rate


@dataclass(frozen=True)
class _Candidate:
    """A charset, and how probable each character is in a language written in it.

    `prior` is the logarithm of how often such text comes without a label beside Western text.
    """

    codec: str
    rate: Callable[[str], float]
    prior: float
    script: str  # "latin", "alphabet" or "ideographs"


_WESTERN = _make_letters("éèàáíóúñçüäößâêôîåøæãõ", "ëïùûìòœ¿¡ºªÿ")
_CENTRAL_EUROPEAN = (
    _make_letters("ąćęłńóśźż"),
    _make_letters("áčďéěíňóřšťúůýžľĺŕôä"),
    _make_letters("áéíóöőúüű"),
    _make_letters("ăâîşţ"),
    _make_letters("čćđšž"),
)
_RUSSIAN = _make_alphabet("оеаинтсрвлкмдпуяыьгзб", "чйхжшюцщэфъё")
_UKRAINIAN = _make_alphabet("оаинтвреісклумдпязьбг", "чйхжшюцщєїфґ'")
_CANDIDATES = (
    _Candidate("cp1252", _WESTERN, 0, "latin"),
    _Candidate("cp1252", _make_letters("äöüß"), 0, "latin"),
    _Candidate("cp1252", _make_letters("áéíóúýðþæö"), -1, "latin"),
    _Candidate("mac-roman", _WESTERN, -4, "latin"),
    _Candidate("mac-roman", _make_letters("äöüß"), -4, "latin"),
    _Candidate("cp1254", _make_letters("çğıöşü", "âîûi̇"), -1, "latin"),
    *(_Candidate("cp1250", rate, -2, "latin") for rate in _CENTRAL_EUROPEAN),
    *(_Candidate("iso8859-2", rate, -4, "latin") for rate in _CENTRAL_EUROPEAN),
    _Candidate("cp1251", _RUSSIAN, -6, "alphabet"),
    _Candidate("cp1251", _UKRAINIAN, -7, "alphabet"),
    _Candidate("koi8-u", _RUSSIAN, -7, "alphabet"),
    _Candidate("koi8-u", _UKRAINIAN, -8, "alphabet"),
    _Candidate("iso8859-5", _RUSSIAN, -9, "alphabet"),
    _Candidate("cp866", _RUSSIAN, -10, "alphabet"),
    _Candidate("mac-cyrillic", _RUSSIAN, -10, "alphabet"),
    _Candidate("cp1253", _make_alphabet("αοιετνσρηπκμλυςίόάέ", "βγδζθξφχψωήύώϊϋ"), -6, "alphabet"),
    _Candidate("cp1255", _make_alphabet("יוהלאתרמבשנד", "גזחטכךםןסעפףצץק"), -8, "alphabet"),
    _Candidate(
        "cp1256", _make_alphabet("اليمونرتبةعدسه", "ثجحخذزشصضطظغفقكءآأؤإئى", "،؟؛"), -8, "alphabet"
    ),
    _Candidate(
        "cp874", _make_alphabet("กขคงจชดตทนบปพมยรลวสหอะาิีเ", "ฉซญณถธผฝฟภศษฬฮัำึืุูแโใไ็่้๊์ๆ"), -9, "alphabet"
    ),
    _Candidate("gb18030", _rate_simplified, -6, "ideographs"),
    _Candidate("cp950", _rate_traditional, -7, "ideographs"),
    _Candidate("cp949", _rate_korean, -7, "ideographs"),
    _Candidate("cp932", _rate_japanese, -7, "ideographs"),
    _Candidate("euc_jp", _rate_japanese, -8, "ideographs"),
)


@dataclass(frozen=True)
class Guess:
    """The likeliest charset, "" where the evidence does not decide.

    `looks_western` tells of undecided bytes that they may well be Windows-1252.
    """

    codec: str
    looks_western: bool


def guess(data: bytes, western_prior: float = 0.0) -> Guess:
    """Return the likeliest charset of bytes that are no UTF-8.

    `western_prior` is what a label that says Western (or ASCII) is worth as evidence.
    """
    sample = _take_sample(data)
    high_count = sum(byte > 0x7F for byte in sample)
    if high_count == 0:
        return Guess("", looks_western=True)
    scores: dict[str, float] = {}
    for candidate in _CANDIDATES:
        text = sample.decode(candidate.codec, "replace")
        score = _score(text, candidate) + candidate.prior
        if candidate.codec == "cp1252":
            score += western_prior
        scores[candidate.codec] = max(score, scores.get(candidate.codec, score))
    ascii_share = (len(sample) - high_count) * ASCII
    is_plausible = scores["cp1252"] - ascii_share >= IMPLAUSIBLE * high_count
    best = max(scores, key=scores.__getitem__)
    best_text = sample.decode(best, "replace")
    rivals = [
        score
        for codec, score in scores.items()
        if codec != best and sample.decode(codec, "replace") != best_text
    ]
    if best == "cp1252":
        return Guess(best if is_plausible else "", looks_western=is_plausible)
    is_likely = _is_likely(best_text, best, scores[best])
    is_decided = is_likely and (not rivals or scores[best] - max(rivals) >= MARGIN)
    is_near = scores["cp1252"] >= scores[best] - 2 * MARGIN
    return Guess(best if is_decided else "", looks_western=is_plausible and is_near)


def _is_likely(text: str, codec: str, score: float) -> bool:
    """Return whether the characters above ASCII are, on average, usual ones of a charset."""
    script = next(one.script for one in _CANDIDATES if one.codec == codec)
    ascii_count = sum(char < "\x80" for char in text)
    return score - ascii_count * ASCII >= UNLIKELY[script] * (len(text) - ascii_count)


def _take_sample(data: bytes) -> bytes:
    """Return the first lines with bytes above ASCII: the others say nothing on the charset.

    A line feed is never a part of a longer character in the charsets here.
    """
    lines: list[bytes] = []
    size = 0
    for line in data.split(b"\n"):
        if not line.isascii():
            lines.append(line[: SAMPLE_BYTES - size])
            size += len(lines[-1]) + 1
            if size >= SAMPLE_BYTES:
                break
    return b"\n".join(lines)


def _score(text: str, candidate: _Candidate) -> float:
    """Return the logarithm of how probable a text is in a candidate's language."""
    rate = _cache_rating(candidate.rate)
    neighbours = _RATE_NEIGHBOURS[candidate.script]
    score = 0.0
    run = 0  # characters above ASCII right before this one
    before = " "
    for index, char in enumerate(text):
        if char < "\x80":
            score += ASCII
            run = 0
        elif char == "\ufffd":
            score += BROKEN
            run += 1
        else:
            after = text[index + 1] if index + 1 < len(text) else " "
            score += rate(char) + neighbours(before, char, after, run)
            run += 1
        before = char
    return score


@lru_cache(maxsize=64)
def _cache_rating(rate: Callable[[str], float]) -> Callable[[str], float]:
    return lru_cache(maxsize=4096)(rate)


def _is_ascii_alpha(char: str) -> bool:
    return char < "\x80" and char.isalpha()


def _rate_latin_neighbours(before: str, char: str, after: str, run: int) -> float:
    """Rate an accented character by the letters around it: it stands alone among ASCII letters."""
    if not char.isalpha():
        return _rate_mark(before, char, after)
    score = 0.0
    if char.isupper() and before.islower():
        score -= 7.0
    if run and before.isalpha():
        score -= 1.5 if run < 2 else 4.0
    if not run and not _is_ascii_alpha(before) and not after.isalpha():
        score -= 0.5
    return score


def _rate_mark(before: str, char: str, after: str) -> float:
    """Rate a mark: between two letters stand apostrophes and dots in the middle alone."""
    is_inside = before.isalpha() and after.isalpha() and char not in "’‘´·"
    return -5.0 if is_inside else 0.0


def _rate_alphabet_neighbours(before: str, char: str, after: str, run: int) -> float:
    """Rate a character of another script, whose words have no ASCII letters or inner capitals."""
    score = 0.0
    if not char.isalpha():
        return score
    if _is_ascii_alpha(before) or _is_ascii_alpha(after):
        score -= 6.0
    if run and char.isupper() and before.islower():
        score -= 7.0
    return score


def _rate_ideograph_neighbours(before: str, char: str, after: str, run: int) -> float:
    """Rate an ideograph beside ASCII letters: it may have swallowed one of a Western word."""
    del char, run
    return -2.5 * (_is_ascii_alpha(before) + _is_ascii_alpha(after))


_RATE_NEIGHBOURS = {
    "latin": _rate_latin_neighbours,
    "alphabet": _rate_alphabet_neighbours,
    "ideographs": _rate_ideograph_neighbours,
}
