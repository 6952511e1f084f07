"""Marks by which mail programs announce a quote, in the languages people answer in."""

# ruff: noqa: RUF001 - words of many languages look like those of others

import re
from enum import StrEnum

from parsers.mail.replies import device_lines

MAX_LINE = 500  # characters of a line that are looked at; no announcement is longer
LAST_OF_MARKS = frozenset(":：-–—_*=>)")
ENDS_OF_ANNOUNCEMENTS = (*LAST_OF_MARKS, "wrote")
FENCE = "```"  # above and below lines of code
# One of these stands in each line that DEVICE_LINE or `device_lines` knows.
DEVICE_HINTS = tuple(
    str.split(
        "sent send outlook brevity typos thumbs mein envoy envia inviat verzond verstuur skickat"
        " trimis poslano obtener unterwegs via written typed composed iphone ipad android phone"
        " mobile celular cellular portable telef téléph teléf móvil télécharg lähetetty wysłan"
        " odeslán odosl отправлен відправлен надіслан küldve gönderil στάλθηκε 送信 发自 傳送 发送"
        " 보냄",
    ),
)
LONGEST_MARK = 130  # characters; marks without punctuation at their beginning are shorter
LONGEST_FIELD = 40  # characters of a field's name in any language
MAX_REST = 160  # characters behind the verb of an announcement
MAX_ATTEMPTS = 400  # lines that are tried as the end of an announcement; each costs some 0.1 ms
MAX_SPAN = 6  # lines an announcement may be wrapped into


class LineKind(StrEnum):
    """Kind of a line of a reply; the values make up a pattern of its lines (see `extract`)."""

    EMPTY = "e"
    QUOTE = "q"  # begins with >
    INTRO = "b"  # announces a quote: "On Monday Jane wrote:"
    ORIGINAL = "o"  # announces that all that follows is old: "-----Original Message-----"
    HEADER = "h"  # a field of a quoted header: "From: Jane"
    FORWARD = "f"  # announces a message passed on, which is news to us
    RULE = "d"  # nothing but dashes or the like: a signature or older text follows
    DEVICE = "s"  # "Sent from my iPhone"
    TEXT = "t"


# Verbs of announcements: English, German, Dutch, Nordic, Romance, Slavic, Baltic, others.
WROTE = (
    r"wrote|writes|sent|said"
    r"|schrieb|schreibt|hat geschrieben"
    r"|schreef|heeft.{0,120}?geschreven|het volgende geschreven"
    r"|skrev|skriver|kirjoitti|skrifaði"
    r"|a [ée]crit|escribi[óo]|ha scritto|escreveu|va escriure|a scris|scrisse"
    r"|napisał(?:\(a\)|a)?|pisze|napsal(?:\(a\)|a)?|nap[ií]sal(?:\(a\)|a)?"
    r"|je napisa[lo](?:/la|la)?|je pisal"
    r"|написала?|напиша|пишет|пише|написав|писал|kirjutas|rašė|rakstīja"
    r"|ezt [íi]rta|[íi]rta|yazdı|şunu yazdı|έγραψε|כתב(?:ה)?|كتب|đã viết|menulis|เขียน"
    r"|写道|寫道|のメール|さんは書きました|님이 작성|작성"
)
# First words of announcements that begin with a date.
ON = (
    r"on|at|am|op|le|el|il(?: giorno)?|em|den|de?n\.|p[åa]|dne|d[nň]a|w dniu|dnia"
    r"|vào(?: lúc)?|ngày|στις|la data|în|pe"
    r"|в|kl|tarihinde|pada|u|dana|ons|tor|fre|lør|søn|man|tir|בתאריך|ב-|在|于|於"
)
_EMAIL = r"[^\s@<>]{1,80}@[^\s@<>]{1,120}"
_DATE = (
    r"(?:\d{1,4}[-/.年]\s?\d{1,2}[-/.月]\s?\d{1,4}"
    r"|\d{1,2}\.? [^\W\d]{3,12}\.? \d{4}"
    r"|\d{1,2}[.:]\d{2}|\b(?:19|20)\d\d\b)"
)

WROTE_PATTERN = re.compile(rf"(?:\b|(?<=[^\x00-\x7f]))(?:{WROTE})(?!\w)", re.IGNORECASE)
ANNOUNCEMENT_START = re.compile(rf"[>\s*_\-–—]*(?:(?:{ON})\b|{_DATE})", re.IGNORECASE)
DATE_OR_ADDRESS = re.compile(rf"{_EMAIL}|{_DATE}|\b\d{{1,2}}\b")
ANNOUNCEMENT_END = re.compile(r"[:：][\s\-–—_*]*$|[-–—_]{3,}\s*$|\bwrote\s*$")
# Gmail without a verb (`2014-10-17 11:28 GMT+03:00 Jane <jane@example.org>:`), Yandex, Chinese and
# Japanese Gmail.
DATED_ADDRESS_LINE = re.compile(
    rf"[>\s]*(?:[^\W\d]{{2,12}}\.?,\s*)?{_DATE}.{{0,160}}"
    rf"(?:<|&lt;|\(|\[mailto:)\s*(?:mailto:)?{_EMAIL}\s*(?:>|&gt;|\)|\])\s*[:：]?\s*$",
    re.IGNORECASE,
)
# Without a date: `---- Jane wrote ----`, `Quoting Jane <…>:`, `Jane <…> schrieb:`.
DASHED_ANNOUNCEMENT = re.compile(
    rf"-{{2,}}\s*(?:.{{0,200}}\s)?(?:{WROTE})[:：]?\s*-{{2,}}\s*$", re.IGNORECASE
)
QUOTING_ANNOUNCEMENT = re.compile(
    r"(?:quoting|zitat von|citando|citat|en réponse à)\b.{1,160}[:：]\s*$", re.IGNORECASE
)

# Marks of a header that a program wrote, in contrast to lines like it that a person wrote.
ADDRESS = re.compile(_EMAIL)
CLOCK_TIME = re.compile(r"\b\d{1,2}[:.h]\d{2}\b")
SENT_FIELD = re.compile(
    r"^[>\s*_|]*"
    r"(?:sent(?: at)?|gesendet(?: am)?|envoyé(?: le)?"
    r"|enviado(?: el| em| a)?|enviada?(?: em)?|inviato(?: il)?"
    r"|verzonden|skickat|sendt|lähetetty|wysłan[oe]|odesláno|odoslané"
    r"|отправлено|надіслано|gönderildi|发送时间|寄件日期"
    r"|送信日時|보낸 ?날짜|elküldve|στάλθηκε|נשלח|terkirim|trimis|poslano|saadetud)"
    r"[\s*_]*[:：]",
    re.IGNORECASE | re.MULTILINE,
)

_ORIGINAL_WORDS = (
    r"original[ -](?:message|appointment|e-?mail|nachricht)|reply message"
    r"|message d['’]origine|message original|mensaje original"
    r"|mensagem original|messaggio originale"
    r"|(?:ur)?spr(?:ü|ue)ngliche (?:nachricht|e-?mail)|urspr\.? nachricht|originalnachricht"
    r"|oorspronkelijk bericht|original(?:t)? ?meddelande|ursprungligt meddelande"
    r"|opprinnelig melding|original ?(?:meddelelse|besked)"
    r"|oprindelig(?: meddelelse| besked)?|alkuperäinen viesti"
    r"|wiadomość oryginalna|oryginalna wiadomość|původní (?:zpráva|e-?mail)"
    r"|pôvodná správa|eredeti üzenet"
    r"|исходное сообщение|оригинальное сообщение|початкове повідомлення"
    r"|özgün (?:ileti|mesaj)|orijinal mesaj"
    r"|mesaj original|αρχικό μήνυμα|原始邮件|原始郵件|原邮件|元のメッセージ"
    r"|원본 메[시세]지|הודעה מקורית|الرسالة الأصلية|thư gốc|pesan asli"
)
_DASHES = re.compile(r"[-–—_*=]{2}")  # in each ORIGINAL_MESSAGE
ORIGINAL_MESSAGE = re.compile(
    r"[>\s]*(?:"
    rf"[-–—_*=]{{2,}}\s*(?:{_ORIGINAL_WORDS})\s*[-–—_*=:]*"
    rf"|[-–—_*=]*\s*(?:{_ORIGINAL_WORDS})\s*[-–—_*=]{{2,}}"
    r")\s*$",
    re.IGNORECASE,
)
FORWARDED_MESSAGE = re.compile(
    r"[\s*_]*(?:"
    r"[-–—_=]{2,}\s*"
    r"(?:forwarded(?: message| by .{1,80})?|weitergeleitete nachricht"
    r"|message (?:transféré|transmis|réexpédié)|mensaje reenviado"
    r"|messaggio inoltrato|mensagem (?:encaminhada|reencaminhada)|doorgestuurd bericht"
    r"|vidarebefordrat meddelande|videresendt (?:melding|meddelelse|besked)"
    r"|välitetty viesti|wiadomość przekazana|przekazana wiadomość|přeposlaná zpráva"
    r"|továbbított üzenet|пересылаемое сообщение|переслане повідомлення"
    r"|iletilen mesaj|转发邮件|转发的邮件|轉寄郵件|転送メッセージ|전달된 메시지)"
    r"\s*[-–—_=:]*"
    r"|(?:begin forwarded message|anfang der weitergeleiteten (?:nachricht|e-?mail)"
    r"|début du message (?:réexpédié|transféré)|inicio del mensaje reenviado"
    r"|inizio messaggio inoltrato|início da mensagem (?:encaminhada|reencaminhada)"
    r"|begin doorgestuurd bericht|vidarebefordrat brev|start på videresendt"
    r"|początek przekazywanej wiadomości|начало переадресованного (?:письма|сообщения)"
    r"|下に転送します|下記は転送|开始转发的邮件)"
    r"\s*[:：]"
    r")\s*$",
    re.IGNORECASE,
)

# Marks that mail programs put before the subject of a mail they pass on, and of one they answer.
# `VS` is an answer in Finnish and passed on in Danish and Norwegian: it counts as passed on, so
# that all is shown.
_MARKS_BEFORE = r"\s*(?:\[[^\]]{0,60}\]\s*)?"
_MARK_END = r"\s*(?:\[\d+\]|\(\d+\))?\s*[:：]"
FORWARD_SUBJECT = re.compile(
    rf"{_MARKS_BEFORE}"
    r"(?:fwd?|fw|wg|tr|rv|enc|i|inoltr[ao]|doorst|vb|vl|vs|vid(?:eresendt)?|pd|přep"
    r"|továbbítás|转发|轉寄|転送|전달|пер|ilt|İlt)"
    rf"{_MARK_END}",
    re.IGNORECASE,
)
REPLY_SUBJECT = re.compile(
    rf"{_MARKS_BEFORE}"
    r"(?:re|aw|antw(?:ort)?|sv|r|rif|réf|res|resp|odp|odg|ynt|vá|答复|回复|回覆|返信|회신"
    r"|на|отв|απ|atb|bls)"
    rf"{_MARK_END}",
    re.IGNORECASE,
)

# Kind of a field in a quoted header -> its names.
FIELDS = {
    "from": (
        r"from|von|de|da|van|från|fra|frá|lähettäjä|od|от|від|kimden|gönderen"
        r"|发件人|寄件者|寄件人|差出人|送信者"
        r"|보낸 ?사람|feladó|από|מאת|من|từ|dari|จาก"
        r"|expéditeur|remitente|mittente|avsändare|de la|expeditor|pošiljatelj|saatja|nuo|no"
    ),
    "date": (
        r"sent(?: at)?|date|gesendet(?: am)?|datum|envoyé(?: le)?|enviado(?: el| em| a)?"
        r"|fecha|data|inviato(?: il)?|verzonden|skickat|sendt|dato|lähetetty"
        r"|päivämäärä|päiväys|wysłano|wysłane|odesláno|odoslané|отправлено|дата|надіслано"
        r"|gönderildi|gönderme tarihi|tarih|发送时间|发送日期|日期|时间|寄件日期"
        r"|送信日時|日時|日付|보낸 ?날짜|날짜|elküldve|dátum|ημερομηνία|στάλθηκε"
        r"|נשלח|תאריך|التاريخ|تاريخ|ngày|terkirim"
        r"|tanggal|trimis|poslano|saadetud|fwd"
    ),
    "to": (
        r"to|an|à|a|para|aan|till|til|vastaanottaja|kenelle|do|komu|pre|кому|до|kime|alıcı"
        r"|收件人|收件者|宛先|받는 ?사람|címzett|προς|אל|إلى|đến|kepada"
        r"|destinataire|destinatario|către|za"
        r"|cc|bcc|kopie|copie|copia|cópia|kopi|kopia|kopio|dw|копия|копія"
        r"|bilgi|抄送|副本|참조|másolatot kap|κοιν\.?"
    ),
    "subject": (
        r"subject|betreff|betrifft|objet|sujet|asunto|assunto|oggetto|onderwerp|ämne|emne"
        r"|aihe|temat|předmět|predmet|тема|konu|主题|主題|主旨|件名|제목"
        r"|tárgy|θέμα|נושא|الموضوع|chủ đề|perihal|subjek|subiect|zadeva|teema"
    ),
    "other": (
        r"reply-to|antwort an|répondre à|responder a|importance|wichtigkeit|priority|priorität"
        r"|attachments?|anlagen?|organization|message-id"
    ),
}
HEADER_FIELD = re.compile(
    r"[>\s*_|]*(?:"
    + "|".join(f"(?P<{role}>{words})" for role, words in FIELDS.items())
    + r")[\s*_]*[:：][*_]*(?:\s|$|(?=\S))",
    re.IGNORECASE,
)

RULE_LINE = re.compile(r"\s*(?:[-–—_=~#*+─━]{2,}|ᐧ)[ \t\u00a0]*$")
SIGNATURE_LINE = re.compile(r"(?:--|—|––|__)[ \u00a0]?$")
DEVICE_LINE = re.compile(
    r"[\s*_\[(>]*(?:"
    # English; "sent from" and the like are in `device_lines`
    r"sent wirelessly .{1,80}|envoyé sans fil .{1,80}"
    r"|get outlook for (?:ios|android).{0,60}|download.{0,30}outlook.{0,60}"
    # German
    r"|(?:von|aus) (?:meinem|meiner|mein) .{1,60}gesendet.{0,20}"
    r"|gesendet (?:von|mit|über|aus) .{1,60}"
    r"|diese nachricht wurde von mein.{1,80}|von unterwegs gesendet.{0,20}"
    r"|outlook für (?:ios|android).{0,60}"
    # Romance languages, Dutch
    r"|envoyé (?:de|depuis|à partir de|avec) .{1,60}|télécharg.{1,20}outlook.{0,40}"
    r"|enviado (?:desde|do|de|a partir|via|con) .{1,60}|obtener outlook.{0,40}"
    r"|inviato (?:da|dal|con) .{1,60}"
    r"|verzonden (?:vanaf|met|vanuit|via) .{1,60}|verstuurd (?:vanaf|met|vanuit) .{1,60}"
    # Nordic and Slavic languages, others
    r"|skickat från .{1,60}|sendt fra .{1,60}|sendt med .{1,60}"
    r"|lähetetty .{1,40}(?:sta|stä|lla|llä)\b.{0,20}"
    r"|wysłan[eoay] z .{1,60}|odesláno z .{1,60}|odoslané z .{1,60}"
    r"|отправлено (?:с|из|от) .{1,60}"
    r"|відправлено з .{1,60}|надіслано з .{1,60}|küldve .{1,40}|.{1,40}gönderildi\.?"
    r"|στάλθηκε από .{1,60}"
    r"|iphoneから送信.{0,20}|.{0,20}から送信|发自我的.{1,30}|從我的.{1,30}傳送|从我的.{1,30}发送"
    r"|나의 .{1,30}에서 보냄|.{1,20}에서 보냄"
    r"|trimis de pe .{1,40}|poslano s? ?.{1,40}"
    # Excuses for short messages
    r"|this message was sent from my .{1,60}"
    r"|please excuse (?:any )?(?:typos|brevity|my brevity).{0,80}"
    r"|typed with thumbs.{0,40}|отправлено мобильн.{1,40}"
    r")[\s*_\])]*$",
    re.IGNORECASE,
)


# Where an announcement may begin behind an answer on its line: with a preposition and a date, or
# with a new sentence.
_DIGIT = re.compile(r"\d")
_GLUED_START = re.compile(rf"(?<=\s)(?:{ON})\s[^\n]{{0,40}}?(?:{_DATE})", re.IGNORECASE)
_NEW_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+(?=\S)")
_WORD = re.compile(r"[^\W\d_]")
# Words whose full stop ends no sentence: titles, and months and days as announcements cut them
# short.
_ABBREVIATIONS = frozenset(
    str.split(
        "mr mrs ms dr st prof sr sra jr no nr jan feb mar mrz apr may jun jul aug sep sept oct okt"
        " nov dec dez ene abr ago dic janv févr avr juil août déc gen mag giu lug set ott fev out"
        " mon tue wed thu fri sat sun mo di mi do fr sa so lun mié jue vie sáb dom mer jeu ven sam"
        " dim seg ter qua qui sex",
    ),
)


def split_glued_answers(lines: list[str]) -> list[str]:
    """Return the lines, an answer and the announcement of a quote on one line put on two.

    `Yes, please. On Wed, Mar 4, 2026 at 3:59 PM, Support <…> wrote:` hides the answer otherwise.
    The announcement may go on over the next lines.
    """
    separate_lines: list[str] = []
    attempts = 0
    near_an_end = _list_near_ends(lines)
    for index, line in enumerate(lines):
        starts: list[int] = []
        is_short = len(line) <= MAX_LINE
        if index in near_an_end and attempts < MAX_ATTEMPTS and is_short and not _is_quoted(line):
            starts = _find_glued_starts(line)
        attempts += bool(starts)
        start = next((at for at in starts if _is_announced_from(lines, index, at)), 0)
        if start > 0:
            separate_lines += [line[:start].rstrip(), line[start:]]
        else:
            separate_lines.append(line)
    return separate_lines


def _list_near_ends(lines: list[str]) -> set[int]:
    """Return the lines on which an announcement may begin: those shortly before a possible end."""
    ends = _list_ends(lines)
    return {index for end in ends for index in range(end - MAX_SPAN + 1, end + 1)}


def _is_quoted(line: str) -> bool:
    return line.lstrip().startswith(">")


def _find_glued_starts(line: str) -> list[int]:
    """Return the positions in a line where an announcement may begin behind other words.

    The last one comes first.
    """
    dated_starts, sentences = _list_dated_starts(line), _list_sentence_starts(line)
    if not dated_starts and not sentences:
        return []
    # A line that announces from its beginning hides an answer only where a sentence ends before.
    is_announcement = ANNOUNCEMENT_START.match(line) or DATED_ADDRESS_LINE.match(line)
    starts = dated_starts & sentences if is_announcement else dated_starts | sentences
    behind_words = (start for start in starts if _WORD.search(line[:start]))
    return sorted(behind_words, reverse=True)[:MAX_SPAN]


def _list_dated_starts(line: str) -> set[int]:
    """Return the positions of "On", "Am" … with a date behind it, written as at a beginning."""
    if not _DIGIT.search(line):
        return set()
    found = (start.start() for start in _GLUED_START.finditer(line))
    return {start for start in found if not line[start].islower()}


def _list_sentence_starts(line: str) -> set[int]:
    """Return the positions where a new sentence begins."""
    ends = _NEW_SENTENCE.finditer(line)
    return {end.end() for end in ends if not _is_abbreviated(line[: end.start()])}


def _is_abbreviated(before: str) -> bool:
    if not before.endswith("."):
        return False
    word = re.split(r"[\s.]+", before.rstrip("."))[-1].casefold()
    return word in _ABBREVIATIONS or len(word) == 1  # or an initial: J. P. Lee


def _is_announced_from(lines: list[str], index: int, start: int) -> bool:
    """Return whether an announcement begins at this position of a line.

    It ends on the same line or a few lines below. Words before it are somebody's, so it needs more
    than others do: a quote below, an address, or the time of day.
    """
    announcement = ""
    for last in range(index, min(index + MAX_SPAN, len(lines))):
        piece = lines[last][start:] if last == index else lines[last]
        if not piece.strip() or (last > index and _is_quoted(piece)):
            return False
        announcement = f"{announcement} {piece.strip()}".strip()[:MAX_LINE]
        if _may_end(lines[last]) and _is_certain_announcement(announcement, lines[last + 1 :]):
            return True
    return False


def _is_certain_announcement(text: str, below: list[str]) -> bool:
    next_line = next((line for line in below[:3] if line.strip()), "")
    has_quote = next_line.lstrip().startswith((">", "|"))
    is_certain = has_quote or ADDRESS.search(text) or CLOCK_TIME.search(text)
    return bool(is_certain) and _is_announcement(text, has_quote_below=has_quote)


def classify_lines(lines: list[str]) -> list[LineKind]:
    """Return the kind of each line; all lines of a wrapped announcement are INTRO."""
    lower = "\n".join(lines).lower()
    hints = tuple(hint for hint in DEVICE_HINTS if hint in lower)
    kinds = [_classify_line(line[:MAX_LINE], hints) for line in lines]
    _mark_code(lines, kinds)
    attempts = 0
    for last in _list_ends(lines):
        if attempts >= MAX_ATTEMPTS:
            break
        if kinds[last] in _MAY_ANNOUNCE and len(lines[last]) <= MAX_LINE:
            attempts += 1
            first = _find_announcement(lines, kinds, last)
            if first is not None:
                kinds[first : last + 1] = [LineKind.INTRO] * (last + 1 - first)
    return kinds


def _classify_line(line: str, hints: tuple[str, ...]) -> LineKind:
    """Return the kind of a line by itself.

    Cheap looks at its ends come first, because nearly all lines are text. `hints` are the words for
    devices that occur anywhere in the message.
    """
    bare = line.strip()
    if not bare:
        return LineKind.EMPTY
    if not bare[0].isalnum() or bare[-1] in LAST_OF_MARKS or len(bare) == 1:
        mark = _classify_mark(line, bare)
        if mark is not None:
            return mark
    if hints and _may_be_device(bare, hints) and _is_device(line):
        return LineKind.DEVICE
    beginning = bare[:LONGEST_FIELD]
    if (":" in beginning or "：" in beginning) and HEADER_FIELD.match(line):
        return LineKind.HEADER
    return LineKind.TEXT


def _classify_mark(line: str, bare: str) -> LineKind | None:
    """Return the kind of a line that is a mark by itself, None for any other.

    `bare` is the line without the blanks around it.
    """
    if FORWARDED_MESSAGE.match(line):
        return LineKind.FORWARD
    # Most of these lines are quotes, and few have the dashes that the many words stand between.
    if _DASHES.search(bare) and ORIGINAL_MESSAGE.match(line):
        return LineKind.ORIGINAL
    if bare[0] == ">":
        return LineKind.QUOTE
    return LineKind.RULE if RULE_LINE.match(line) else None


def _is_device(line: str) -> bool:
    if device_lines.names_device(line):
        return True
    words = device_lines.strip_link(line)
    return DEVICE_LINE.match(words) is not None and not device_lines.is_persons(words)


def _may_be_device(bare: str, hints: tuple[str, ...]) -> bool:
    lower = bare.lower()
    if not any(hint in lower for hint in hints):
        return False
    return len(bare) <= LONGEST_MARK or len(device_lines.strip_link(bare)) <= LONGEST_MARK


def _mark_code(lines: list[str], kinds: list[LineKind]) -> None:
    """Make lines between fences text, whatever they look like."""
    fences = [index for index, line in enumerate(lines) if line.startswith(FENCE)]
    for first, last in zip(fences[::2], fences[1::2], strict=False):
        for index in range(first, last + 1):
            if kinds[index] is not LineKind.EMPTY:
                kinds[index] = LineKind.TEXT


def _find_announcement(lines: list[str], kinds: list[LineKind], last: int) -> int | None:
    """Return the first line of an announcement that ends on line `last`, None if none does.

    Lines above are added one by one; the longest announcement counts, but none goes above a line
    that begins as announcements do.
    """
    line = lines[last].strip()
    if DASHED_ANNOUNCEMENT.match(line) or QUOTING_ANNOUNCEMENT.match(line):
        return last
    has_quote = _has_quote_below(lines, kinds, last)
    first: int | None = None
    announcement = ""
    for index in range(last, max(-1, last - MAX_SPAN), -1):
        if index < last and kinds[index] in _NEVER_PART:
            break
        piece = lines[index].lstrip(" >").rstrip()
        announcement = f"{piece} {announcement}".strip()[:MAX_LINE]
        if kinds[index] is LineKind.EMPTY:
            continue
        if first is not None and not _may_begin_above(lines, kinds, index):
            continue
        if _is_announcement(announcement, has_quote_below=has_quote):
            first = index
            if ANNOUNCEMENT_START.match(lines[index]):
                break
    return first


_MAY_ANNOUNCE = frozenset({LineKind.TEXT, LineKind.QUOTE, LineKind.RULE})
_NEVER_PART = frozenset({LineKind.INTRO, LineKind.ORIGINAL, LineKind.FORWARD, LineKind.DEVICE})


def _list_ends(lines: list[str]) -> list[int]:
    """Return the indices of the lines that may be the last of an announcement."""
    return [index for index, line in enumerate(lines) if _may_end(line)]


def _may_end(line: str) -> bool:
    """Return whether a line may be the last of an announcement."""
    return line.rstrip().endswith(ENDS_OF_ANNOUNCEMENTS)


def _may_begin_above(lines: list[str], kinds: list[LineKind], index: int) -> bool:
    """Return whether an announcement on the lines below may have begun on this line already.

    Across an empty line only one with a date does.
    """
    if not ANNOUNCEMENT_START.match(lines[index]):
        return False
    return kinds[index + 1] is not LineKind.EMPTY or re.search(_DATE, lines[index]) is not None


def _is_announcement(text: str, *, has_quote_below: bool) -> bool:
    """Return whether a text, its lines joined, announces a quote.

    Without an address or a first word as announcements have it, only a quote below makes it one:
    "The payer wrote on 3/4:" introduces words that the writer quotes himself.
    """
    if DATED_ADDRESS_LINE.match(text):
        return has_quote_below or text.rstrip().endswith((":", "："))
    if not _has_parts_of_announcement(text):
        return False
    has_start = ANNOUNCEMENT_START.match(text) is not None
    has_address = ADDRESS.search(text) is not None
    if text.endswith("wrote"):
        return has_start and has_address
    if has_start or has_address:
        return True
    has_date = re.search(_DATE, text) is not None or CLOCK_TIME.search(text) is not None
    return has_quote_below and has_date


def _has_parts_of_announcement(text: str) -> bool:
    """Return whether a text ends like an announcement and has a date or address, and a writer."""
    if not ANNOUNCEMENT_END.search(text) or not DATE_OR_ADDRESS.search(text):
        return False
    return _ends_with_writer(text)


def _ends_with_writer(text: str) -> bool:
    """Return whether only a name, an address or a date stands behind the verb of a text.

    Otherwise it is an ordinary sentence. The first and the last verb are tried.
    """
    verbs = list(WROTE_PATTERN.finditer(text))
    rests = [text[verb.end() :] for verb in (verbs[0], verbs[-1])] if verbs else []
    return any(_is_writer(rest, text) for rest in rests)


def _is_writer(rest: str, text: str) -> bool:
    if len(rest) > MAX_REST:
        return False
    return ". " not in rest or re.search(_EMAIL, text) is not None


def _has_quote_below(lines: list[str], kinds: list[LineKind], last: int) -> bool:
    """Return whether the next line with anything on it, at most three below, is a quote."""
    for index in range(last + 1, min(last + 4, len(lines))):
        if kinds[index] is not LineKind.EMPTY:
            return kinds[index] is LineKind.QUOTE or lines[index].startswith("|")
    return False
