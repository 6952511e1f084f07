"""Lines by which a program or device names itself below a text: "Sent with Airmail".

They have a general shape: few words behind "sent from" or the like, that name a device or program
and say nothing on when, where or what, perhaps with a link and an excuse for mistakes.
"""

# ruff: noqa: RUF001 - words of many languages

import re

MAX_WORDS = 7  # behind "sent from"; "the all new AOL app for iOS" is the longest known

_LINK = re.compile(r"\[([^\]\n]{1,60})\]\(\s*\w+:[^)\s]*\)|\s*[<(]\s*(?:https?:|www\.)[^>)\s]*[>)]")
_EXCUSE = re.compile(
    r"(?:[.,;!–—-]|\s)\s*(?:(?:please|kindly|pls) )?"
    r"(?:excuse|forgive|pardon|ignore|sorry for|apologies for)\b"
    r".{0,40}\b(?:typos?|brevity|errors?|mistakes?|spelling|autocorrect|shortness|thumbs).{0,30}$",
    re.IGNORECASE,
)
_ANNOUNCED = re.compile(
    r"(?:(?P<sent>sent|send|written|typed|composed)(?: (?:wirelessly|securely|on the go))?"
    r" (?P<by>from|with|via|using|by|on|through)"
    r"|(?P<bare>via|from(?= my )|von(?= meinem )|de(?= mon )|desde(?= mi )|dal(?= mio )"
    r"|vanaf(?= mijn )))\s+(?P<source>.+)",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s,;:!?]+")
_OWN = frozenset({"my", "meinem", "mon", "mi", "mio", "mijn"})
_DEVICES = frozenset(
    str.split(
        "iphone ipad ipod iwatch android phone phones mobile mobil mobiel smartphone tablet handy"
        " handheld device cell cellphone blackberry galaxy samsung huawei honor xiaomi redmi oppo"
        " oneplus realme pixel nexus motorola moto nokia lumia lg htc sony xperia fairphone"
        " surface chromebook macbook kindle treo palm handset téléphone portable móvil celular"
        " telefono cellulare telefoon",
    ),
)
_PROGRAMS = frozenset(
    str.split(
        "outlook gmail yahoo aol icloud airmail typeapp bluemail sparrow"
        " mailbox proton protonmail proton-mail tuta tutanota fastmail thunderbird mozilla postbox"
        " mailbird mailspring spark superhuman front zoho boxer nine k-9 edison newton canary"
        " aquamail polymail missive shortwave spike inky hey gmx web.de t-online mail.ru yandex"
        " xfinity comcast verizon at&t t-mobile sprint vodafone workspace windows cloudmagic"
        " mymail emclient touchdown acompli inbox roundcube evolution betterbird",
    ),
)
_OF_PEOPLE = frozenset(
    # When, where, what and verbs: such a line is somebody's sentence.
    str.split(
        "yesterday today tomorrow tonight now earlier later ago last next week month morning"
        " afternoon monday tuesday wednesday thursday friday saturday sunday january february march"
        " april june july august september october november december am pm"
        " clinic office desk practice hospital front home room department billing pharmacy lab"
        " love hugs thanks gratitude regards respect appreciation care prayers blessings joy"
        " school fax faxed courier post fedex ups usps certified portal payer"
        " is was were are be been has have had will would can could should did does do but because"
        " since when while who which that this these those it he she they we you i us them him her"
        " to not no and claim claims patient patients invoice invoices batch file files records"
        " check statement account number manager boss colleague husband wife doctor dr"
        " gestern heute morgen praxis büro klinik uhr per ist war wurde hat aber weil dass sie er"
        " wir ich nicht hier aujourd'hui cabinet clinique bureau est était pas mais"
        " ayer hoy mañana clínica consultorio oficina hospital es fue pero"
        " ieri oggi studio clinica ufficio gisteren vandaag praktijk kantoor kliniek"
        " går idag kontoret kliniken wczoraj dziś вчера сегодня клиники офиса",
    ),
)


def strip_link(line: str) -> str:
    """Return a line without addresses of links: only their words are left."""
    return _LINK.sub(lambda link: link[1] or "", line)


def is_persons(line: str) -> bool:
    """Return whether a line says when, where or what, as people's sentences do."""
    return any(word.strip(".()<>[]*_").casefold() in _OF_PEOPLE for word in _WORD.findall(line))


def names_device(line: str) -> bool:
    """Return whether an English line, or a short one of another language, is a device's."""
    bare = strip_link(line).strip(" \t\xa0<>«»()[]*_-–—~")
    bare = _EXCUSE.sub("", bare).rstrip(" .!")
    announced = _ANNOUNCED.fullmatch(bare)
    if announced is None or "," in bare:
        return False
    words = _WORD.findall(announced["source"])
    if not 0 < len(words) <= MAX_WORDS or is_persons(announced["source"]):
        return False
    folded = [word.strip(".()'’").casefold() for word in words]
    if not _DEVICES.isdisjoint(folded):
        return True
    if announced["bare"]:
        return False
    return _is_program(announced["by"].lower(), folded) or _is_unknown_program(
        announced["by"].lower(), words, has_link=_LINK.search(line) is not None
    )


def _is_program(by: str, words: list[str]) -> bool:
    """Return whether words behind "sent from", "with" … name a program that is known.

    "Sent by mail" is a person's: by post, or in another message.
    """
    is_mail = by == "from" and words[0] in {"mail", "e-mail"}
    return is_mail or words[0] in _OWN or not _PROGRAMS.isdisjoint(words)


def _is_unknown_program(by: str, words: list[str], *, has_link: bool) -> bool:
    """Return whether words are the name of a program: with a link, or as only programs have."""
    is_name = len(words) <= 3 and all(word[:1].isupper() for word in words)  # noqa: PLR2004
    return is_name and (has_link or by == "with" or _is_coined(words[0]))


def _is_coined(word: str) -> bool:
    """Return whether a word looks like the name of a mail program: AirMail, TypeApp, Inboxly."""
    return re.fullmatch(r"\w*(?:[Mm]ail|[Aa]pp)(?:er|ly|r)?|[A-Z][a-z]+[A-Z]\w+", word) is not None
