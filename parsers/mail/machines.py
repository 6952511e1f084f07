"""Recognition of mail of devices and programs that carries no mark of it.

Copiers, fax and voicemail servers, scanners, portals and notification programs mostly write none of
the fields of automatic mail. They are known by their address, their name, by sentences that nobody
reads answers, by the lines of devices, and by what only people write and they do not.
"""

# ruff: noqa: RUF001, SIM905 - words of many languages look like those of others; lists to be read

import re
from collections.abc import Iterable, Iterator

TEXT_READ = 4000  # characters of the newest text that are looked at
# What comes before a sentence, or a part of one.
_BEGINNING = re.compile(r"(?:\A|[.!?:*•|\-–—)\]】。！\n])[\s*_>(\[\"“„«【]*")


def _compile(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


# -- addresses ----

# Programs that report something, in the languages of mail programs. Words that are names of people
# as well (Avis, Alarm) are left out.
_NOTIFIERS = (
    r"e?-?notif(?:y|ier|ications?|s)|e?-?alerts?|reminders?|newsletters?|e-?news|digests?",
    r"benachrichtigung(?:en)?|erinnerung(?:en)?|rundschreiben|systemmeldung(?:en)?",
    r"notificac(?:i[oó]n(?:es)?|[aã]o|[oõ]es)|notifiche|notifica|alertas?|alertes|rappels?",
    r"recordatorios?|lembretes?|promemoria|meldingen|herinnering(?:en)?|aviseringar?",
    r"powiadomieni[ae]|uvedomlenie|bildirim",
    r"auto-?(?:mail|mailer|notify|notification|confirm|send(?:er)?|generated|system)",
)
# Devices: with more before it, `scan` is a department (ct-scan@), so these stand alone.
_DEVICES = (
    r"e?fax(?:es)?[-_.]?(?:service|server|in|inbox|gateway|mailer|system)?|fax2?(?:to)?e?mail",
    r"voice-?mails?|voice-?messages?|vmail|unity(?:-?connection)?|voip|pbx|ip-?phone|asterisk",
    r"anrufbeantworter|sprachbox|mailbox-?ansage|messagerie-?vocale|buz[oó]n-?de-?voz",
    r"correo-?de-?voz|segreteria-?telefonica|correio-?de-?voz",
    r"scan(?:s|ner|ning|2mail|2email|to-?e?mail)?|my-?scan|scan-?(?:service|server|station)",
    r"copier|photo-?copier|mfp|mfc|multi-?function(?:-?printer)?|printers?|print-?server",
    r"kopierer|drucker|photocopieur|copieur|imprimante|fotocopiadora|copiadora|impresora",
    r"impressora|fotocopiatrice|stampante|scanner-?(?:mail)?|kopiarka|drukarka|skrivare",
    r"ricoh|xerox|konica(?:-?minolta)?|kyocera|bizhub|work-?cent(?:re|er)|lexmark|taskalfa",
)
_PROGRAM_ADDRESS = _compile(
    rf"(?:.*[-_.+])?(?:{'|'.join(_NOTIFIERS)})(?:[-_.+]?(?:\d+|service|system|center|mailer|bot))?"
)
_DEVICE_ADDRESS = _compile(
    rf"(?:{'|'.join(_DEVICES)})(?:[-_.+]?\d+|[-_.+](?:office|floor|front|back|room)\w*)?",
)
# Addresses that people and programs have alike: they count where nothing shows a person.
_SHARED_ADDRESS = _compile(
    r"(?:.*[-_.+])?(?:system|service|server|portal|messag(?:es?|ing)|reports?|reporting|updates?"
    r"|statements?|confirmations?|receipts?|edi|remits?|remittances?|mailer|mailbot|bot|batch|app"
    r"|scheduler|monitor(?:ing)?|secure-?(?:mail|message|e-?mail)|message-?center|clearinghouse"
    r"|root|www(?:-?data)?|apache|nginx|oracle|postgres|mssql|sqlserver|backup)(?:[-_.+]?\d+)?"
)

# -- names ----

_PROGRAM_NAME = _compile(
    r"(?:[\w&.,'’/-]+ ){0,4}(?:(?:e-?)?notifications?|notification (?:service|system|cent(?:er|re))"
    r"|alerts?|no[- ]?reply|do[- ]?not[- ]?reply|auto[- ]?(?:mailer|notify|responder|notification)"
    r"|newsletter|benachrichtigung(?:en)?|notificaciones|notifiche|automailer)"
)
_DEVICE_NAME = _compile(
    r"(?:[\w&.,'’/-]+ ){0,4}(?:voice ?-?mail(?: (?:system|server|service))?"
    r"|fax (?:server|service|gateway|system))",
    r"(?:(?:the|our|office|front desk|upstairs|downstairs|network|main) ){0,2}"
    r"(?:scanner|copier|e?fax|fax machine|printer|mfp|multi-?function (?:printer|device)|kopierer"
    r"|photocopieur|fotocopiadora|fotocopiatrice|drucker|imprimante|impresora)(?: ?#?\d+)?",
    r"(?:ricoh|xerox|konica|kyocera|canon|hp|brother|lexmark|sharp|toshiba|epson|oki|samsung)"
    r"(?: [\w.-]+){0,3} ?(?:mfp|mfc|workcent(?:re|er)|aficio|bizhub|taskalfa|im ?age ?runner"
    r"|laserjet|officejet|versalink|altalink|scanner|copier|printer|fax)(?: ?[\w.-]+){0,3}",
)

# -- words ----

# After these words a sentence is about something else, as in "do not reply with patient data" and
# "this mailbox is not monitored on weekends".
_UNLESS = (
    r"(?!\s+(?:with|unless|if|until|by|before|after|on|outside|over|during|at|around|every|for|24"
    r"|wenn|falls|bis|mit|si|avec|avant|con|hasta|se)\b)"
)
_MESSAGE = r"(?:e-?mail(?: (?:message|address|account))?|message|mail|notification|notice|alert)"
UNREAD_SENTENCES = _compile(
    # English
    r"(?:note:? )?(?:please,? |kindly )?(?:note:? )?do(?: not|n['’]t) (?:directly )?"
    r"(?:reply|respond|answer)(?: back| directly)?+(?: to)?+(?: (?:this|the|that))?+"
    rf"(?: (?:automated|automatic|system|auto-?generated))?+(?: {_MESSAGE})?+\b{_UNLESS}",
    r"(?:no|not) ?-?reply (?:e-?mail|message|notification)\b",
    rf"(?:please note (?:that )?)?(?:this|the)(?: {_MESSAGE})? ?(?:mailbox|inbox|address|account)?"
    rf" (?:is|are) (?:not (?:being )?(?:monitored|checked|attended)|unmonitored|unattended)\b"
    rf"{_UNLESS}",
    rf"(?:replies|responses|answers)(?: (?:sent )?to this (?:{_MESSAGE}|mailbox|address))? "
    r"(?:are not|aren['’]t|will not be|won['’]t be|cannot be|can['’]t be|are never) "
    rf"(?:monitored|read|received|delivered|answered|processed|checked)\b{_UNLESS}",
    rf"(?:you )?(?:cannot|can['’]t|can not) (?:reply|respond) to this {_MESSAGE}\b",
    rf"(?:this {_MESSAGE} (?:was|is|comes|has been) )?(?:sent )?from an? (?:notification[- ]only"
    r"|unmonitored|unattended|send[- ]only|outgoing[- ]only|no-?reply) "
    r"(?:e-?mail )?(?:address|mailbox|account)",
    # German, Dutch, the Nordic languages
    r"bitte (?:antworten|antworte|reagieren) sie nicht (?:direkt )?auf diese\b",
    r"(?:bitte )?(?:auf diese (?:e-?mail|mail|nachricht) )?(?:bitte )?nicht antworten\b",
    r"antworten auf diese (?:e-?mail|mail|nachricht|adresse) (?:werden|können) nicht\b",
    r"(?:gelieve |u kunt )?(?:niet|geen) (?:te )?(?:antwoorden|antwoord|reageren) op "
    r"(?:dit|deze)\b",
    r"(?:vänligen )?svara (?:inte|ej) på det(?:ta|här)\b|(?:venligst |vennligst )?"
    r"(?:ikke svar|svar ikke) på denne\b|älä vastaa tähän\b",
    # Romance languages
    r"(?:merci de |veuillez |prière de )?ne (?:pas r[ée]pondre|r[ée]pondez pas)"
    r"(?: directement)? [àa] (?:ce|cet|cette)\b",
    r"(?:por favor,? )?no (?:responda|conteste|responder|contestar)(?: directamente)? "
    r"(?:a )?este\b",
    r"(?:per favore,? |si prega di |ti preghiamo di )?non rispondere(?: direttamente)? "
    r"a quest[ao']",
    r"(?:por favor,? )?n[ãa]o (?:responda|responder)(?: diretamente)? (?:a )?est[ae]\b",
    # Slavic languages, Turkish
    r"(?:prosimy |proszę )?nie odpowiada(?:ć|j) na (?:tę|ten|tą|niniejsz)",
    r"neodpov[íi]dejte na (?:tento|tuto)|(?:пожалуйста,? )?не отвечайте на это\b",
    r"l[üu]tfen bu (?:e-?postay?a|iletiye|mesaja) yan[ıi]t",
)
# Chinese, Japanese and Korean do not part words.
_UNREAD_UNPARTED = _compile(
    r"请勿(?:直接)?(?:回复|回覆|答复)|請勿(?:直接)?(?:回覆|回復|回复)|(?:ご返信|返信)(?:いただい|頂い|され|し)?"
    r"(?:ても|ないで|はできません|にはお答え)|送信専用|회신하지 ?마|발신 ?전용"
)
PROGRAM_SENTENCES = _compile(
    # what the message says about itself
    r"(?:please note:? )?(?:that )?this is an? (?:fully )?(?:automated|automatic|automatically"
    r"(?: |-)generated|auto-?generated|system(?: |-)generated|computer(?: |-)generated)\b",
    rf"this {_MESSAGE} (?:was|is|has been) (?:automatically (?:generated|sent|created)"
    r"|auto-?generated|(?:generated|sent|created) automatically|system(?: |-)generated)\b",
    r"(?:dies|das) ist eine automatische? (?:generierte |erzeugte |erstellte |versendete )?"
    r"(?:e-?mail|mail|nachricht|benachrichtigung)\b",
    r"diese (?:e-?mail|mail|nachricht|benachrichtigung) (?:wurde|wird|ist) automatisch\b",
    r"(?:ceci est un |cet? )(?:e-?mail|courriel|message)? ?(?:a été )?(?:automatique|généré "
    r"automatiquement|envoyé automatiquement)",
    r"est[ea] (?:es un )?(?:correo|mensaje|mensagem|e-?mail)(?: electr[óo]nico)?"
    r" (?:es |foi |fue |ha sido |é )?(?:autom[áa]tic[oa]|(?:generad|enviad|gerad)[oa] autom)",
    r"quest[ao'] (?:è un )?(?:messaggio|e-?mail) (?:è stat[ao] )?(?:automatic[ao]|generat[ao] autom"
    r"|inviat[ao] autom)",
    r"dit is een automatisch\w* (?:gegenereerd\w* )?(?:e-?mail|bericht)",
    r"detta är ett automatiskt|dette er en automatisk",
    r"ta wiadomość została wygenerowana autom",
    r"(?:это|данное) (?:автоматическое )?(?:сообщение|письмо) (?:сгенерировано|отправлено|создано)?"
    r" ?автоматически",
)
# Lines of scanners, copiers, fax and voicemail servers: a label, or a sentence that is no request.
DEVICE_SENTENCES = _compile(
    r"(?:this|the|your) (?:e-?mail|fax|document|message|file|attached \w+) (?:was|has been|is) "
    r"(?:sent|scanned|delivered)(?: \w+)? (?:from|by|using|with|via) [^\n]{0,60}"
    r"(?:multi-?function|mfp|mfc|copier|scanner|workcent(?:re|er)|aficio|bizhub|fax|printer)",
    r"(?:attached (?:is|are) (?:a |the )?)?scan(?:ned)?(?: (?:document|image|file))? (?:from|by) "
    r"(?:an? |the |your )?(?:device|xerox|ricoh|canon|konica|kyocera|hp|brother|lexmark|sharp"
    r"|toshiba|multi-?function|copier|scanner|mfp)\b",
    r"(?:please open the attached document\.? )?(?:it|this document) was (?:digitally )?scanned "
    r"and sent to you\b",
    r"(?:you have (?:received )?|you['’]ve (?:got|received) )(?:an? |one |\d+ )?(?:new )?"
    r"(?:(?:\d+|one)[- ]page )?(?:voice ?-?mail|voice message|fax(?: message)?|missed call)\b",
    r"(?:new )?(?:voice ?-?mail|voice message|fax)(?: message)? (?:received )?from "
    r"[^\n]{0,40}\d{3}",
    r"(?:device (?:name|model|location|serial)|machine name|multi-?function (?:printer|device) "
    r"(?:location|name)|attachment file type|scan (?:date|time|resolution)|(?:fax|remote) "
    r"(?:csid|station id)|csid|tsid|gerätename|modellname|nom de l['’]appareil)[ \t]*[:=]",
    r"new voice ?-?mail\b|missed call from\b|incoming fax\b|fax received\b|eingehendes fax\b",
)

# A sentence has one of these stems. Most mail of people has none, and looking for them takes a
# tenth of the time.
_STEMS = {
    "unread-words": (
        "repl respon answer antwo reageren monitored attended checked svar vastaa répon repon"
        " contest rispond odpow odpov отвечайте yanıt yanit 回复 回覆 回復 答复 返信 送信専用"
        " 회신 발신 -only notification outgoing"
    ).split(),
    "program-words": ["autom", "auto-", "autogen", "generat", "généré"],
    "device-words": (
        "scan fax voice missed csid tsid station device machine attachment function copier printer"
        " mfp mfc gerät modell appareil aficio bizhub workcent"
    ).split(),
}

_SENTENCES = {
    "unread-words": UNREAD_SENTENCES,
    "program-words": PROGRAM_SENTENCES,
    "device-words": DEVICE_SENTENCES,
}

# -- people ----

# What only people write of themselves, and questions. Italian, Spanish and their like mostly leave
# the pronoun out, so that nothing follows where it is missing.
_PERSON = re.compile(
    r"(?<![\w.])(?:I|I['’](?:m|ve|ll|d)|my|me|mine|myself|ich|mein[ermns]?|mir|mich|je|j['’]ai"
    r"|mon|moi|yo|mi|ik|mijn|jag|jeg|eu|meu|minha|io|mio|mia)(?![\w.])|[?？]",
    re.IGNORECASE,
)
# What people ask of a desk; programs ask to log in, to click, to contact somebody.
_REQUEST = re.compile(
    r"\bplease (?:help|advise|assist|call (?:me|us|back|her|him)|(?:re)?send|check|fix|correct"
    r"|explain|look (?:into|at)|refund|let (?:me|us) know|take care|find out|tell)\b"
    r"|\b(?:could|can) you\b",
    re.IGNORECASE,
)
_PEOPLE = re.compile(
    r"(?<![\w.])(?:we|we['’](?:re|ve|ll|d)|our|us|wir|unser[ensm]*|uns|nous|notre|nos|wij|ons|vi)"
    r"(?![\w.])",
    re.IGNORECASE,
)
# Words without which a longer English text is hardly written.
_ENGLISH = re.compile(r"\b(?:the|this|your|you|is|are|was|has|for|of|to)\b", re.IGNORECASE)


def list_signs(
    local: str,
    name: str,
    subject: str,
    newest_text: str,
    *,
    has_unread_address: bool,
    is_answer: bool,
    passes_on: bool,
) -> Iterator[str]:
    """Yield the names of the signs that a mail has of a device or program (`evidence.SIGNS`).

    `local` is the local part of the sender's address and `newest_text` the text without quotes;
    `has_unread_address` says that the address is one nobody reads, such as no-reply@.
    A mail that passes another one on has the words of that, so its words say nothing.
    """
    text = newest_text[:TEXT_READ]
    local, name = local.strip(), name.strip()
    by_sender = has_unread_address
    for sign, pattern, value in (
        ("machine-address", _PROGRAM_ADDRESS, local),
        ("machine-name", _PROGRAM_NAME, name),
        ("device-address", _DEVICE_ADDRESS, local),
        ("device-name", _DEVICE_NAME, name),
    ):
        if pattern.fullmatch(value):
            by_sender = True
            yield sign
    if passes_on:
        return
    is_shared = not is_answer and _SHARED_ADDRESS.fullmatch(local) is not None
    is_program = not is_answer and by_sender and text.strip() != ""
    folded = f"{subject}\n{text}".lower()
    possible = {name for name, stems in _STEMS.items() if any(stem in folded for stem in stems)}
    if not (possible or is_shared or is_program):
        return
    beginnings = [match.end() for match in _BEGINNING.finditer(text)] if possible else []
    sentences = {
        name: sentence
        for name in sorted(possible)
        if (sentence := _find_sentence(_SENTENCES[name], text, beginnings)) is not None
    }
    has_person = _PERSON.search(_cut(text, sentences.values())) is not None
    if by_sender or not has_person:
        yield from sentences
        if "unread-words" not in sentences and _UNREAD_UNPARTED.search(text):
            yield "unread-words"
        if not is_answer and DEVICE_SENTENCES.match(subject):
            yield "device-words"
    if (is_shared or is_program) and not has_person:
        is_english = not text.strip() or _ENGLISH.search(text) is not None
        if is_english and not (_PEOPLE.search(text) or _REQUEST.search(text)):
            yield "no-person"


def _find_sentence(
    pattern: re.Pattern[str], text: str, beginnings: Iterable[int]
) -> re.Match[str] | None:
    """Return the first match of a pattern where a sentence begins."""
    matches = (pattern.match(text, position) for position in beginnings)
    return next(filter(None, matches), None)


def _cut(text: str, sentences: Iterable[re.Match[str]]) -> str:
    """Return a text without these sentences, which may speak of themselves as people do."""
    for sentence in sentences:
        text = text.replace(sentence[0], " ", 1)
    return text
