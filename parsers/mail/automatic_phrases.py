"""Words of automatic mail in subject and text, in the languages of mail programs.

Each tuple holds alternatives of one regular expression; the expressions stand at the end.
"""

# ruff: noqa: RUF001 - words of many languages look like those of others

import re

# Beginnings nobody writes by hand.
AUTO_REPLY = (
    # English, German, Dutch, the Nordic languages
    r"auto(?:mat(?:ic|ed))?[ -]?(?:reply|response|responder|answer|acknowledge?ment)",
    r"out[ -]of[ -](?:the[ -])?office (?:auto|reply|response|message|notification|notice)",
    r"vacation (?:reply|response|message|notice)",
    r"automatische (?:antwort|rückmeldung|rueckmeldung|e-?mail-?antwort|nachricht|beantwortung)",
    r"auto(?:matisk)?(?:t)?[ -]?svar",
    r"auto-?antwort|abwesenheits(?:notiz|benachrichtigung|meldung|assistent|nachricht|info)",
    r"automatisch(?:e)? (?:antwoord|bericht|reactie)|afwezigheids\w+",
    r"frånvaromeddelande|fraværs(?:besked|melding)",
    r"automaattinen (?:vastaus|poissaoloviesti)|poissaoloilmoitus",
    # Romance languages
    r"(?:réponse|reponse) automatique|message d['’]absence|notification d['’]absence",
    r"absence du bureau",
    r"respuesta autom[áa]tica|risposta automatica|resposta autom[áàa]tica|r[ăa]spuns automat",
    r"risposta non al computer",
    # Slavic and Baltic languages
    r"automatyczna odpowied[źz]|odpowied[źz] automatyczna|autoodpowied[źz]",
    r"automatick[áa] odpov[ěe][ďd]|automatick[áa] odpove[ďd]|automatski odgovor|samodejni odgovor",
    r"автоответ|автоматический ответ|автоматична відповідь|автовідповідь|автоматичен отговор",
    r"automātiskā atbilde|automatinis atsakymas|automaat(?:ne )?vastus",
    # Hungarian, Turkish, Greek, Hebrew, Arabic, Vietnamese, Indonesian, Thai
    r"automatikus válasz|otomatik (?:yanıt|cevap)|αυτόματη απάντηση|מענה אוטומטי",
    r"תשובה אוטומטית|رد تلقائي",
    r"الرد التلقائي",
    r"trả lời tự động|balasan otomatis|ตอบกลับอัตโนมัติ",
    # Chinese, Japanese, Korean
    r"自[动動](?:回复|回覆|答复|答覆|應答|応答|返信|配信)|不在通知|不在のお知らせ",
    r"자동 ?(?:회신|응답)",
)

# What mail programs put before the subject they answer. At the beginning of a subject, they count
# where nothing but a colon, a date, a bracket or the end follows.
ABSENCE_PREFIXES = (
    r"out[ -]of[ -](?:the[ -])?office",
    r"abwesenheit|abwesend|nicht im (?:büro|buero|haus)|au(?:ß|ss)er haus",
    r"absence|absent(?:e)? du bureau|hors du bureau|fuera de (?:la )?oficina|ausência",
    r"fora do escritório|fuori (?:ufficio|sede)|afwezig(?:heid)?|niet aanwezig",
    r"frånvar(?:o|ande)|fravær|ikke på kontoret|poissa(?: toimistosta)?|poissaolo",
    r"nieobecność|poza biurem|nep[řr]ítomnos[ťt]|mimo kancel[áa][řr]|odsutnost",
    r"házon kívül|irodán kívül|távollét|вне офиса|нет на месте|ofis dışında|εκτός γραφείου",
    r"不在|부재 ?중",
)

# People write these too ("On leave: Dr. Lee, who signs?"): alone in a subject, or before the
# subject of an answer, they mean that somebody is away; before other words they name the matter.
ABSENCE = (
    r"away from (?:my |the )?(?:mail|e-?mail|office|desk)",
    r"on (?:vacation|annual leave|leave)",
    r"i am (?:currently )?(?:out of (?:the )?office|away|on vacation|on leave)",
    r"bin nicht im (?:büro|buero|haus)|im urlaub|absen(?:t|te)|en congés?|ausencia|ausente",
    r"assen(?:za|te)|отсутствую|外出|休[暇假]",
)

BOUNCE = (
    # English
    r"undeliver(?:able|ed)(?: mail| message| e-?mail)?(?: returned to sender|:|,|\b)",
    (
        r"(?:mail|message|e-?mail|delivery)?[ -]?(?:delivery|deliver) (?:status )?"
        r"(?:notification|report|failure|error|problem|has failed|failed)"
    ),
    (
        r"delivery (?:status|failure|failed|problems?|delayed|incomplete|has failed"
        r"|final failure|unsuccessful|report)\b"
    ),
    r"(?:permanent|temporary|transient)?(?: mail| message)?\s*(?:delivery )(?:failure|error|delay)",
    (
        r"(?:mail|message|e-?mail) "
        r"(?:could not be|not|was not|cannot be|can't be|undeliverable|delivery)\b.{0,30}"
        r"(?:deliver|fail|status)"
    ),
    (
        r"(?:mail|message|e-?mail) "
        r"(?:system error|delivery|failed|failure|undeliverable|returned|rejected|status"
        r"|could not be delivered)"
    ),
    r"returned (?:mail|e-?mail|message|to sender)|failure notice",
    r"failed (?:mail|delivery|recipient)",
    r"non[ -]?delivery|nondeliverable",
    r"(?:warning|notice): (?:could not send|mail delivery|message|e-?mail|unable)",
    r"postmaster notify",
    r"bounced? (?:mail|message|e-?mail)",
    (
        r"your (?:message|mail|e-?mail).{0,60}"
        r"(?:could not be delivered|not delivered|undeliverable|bounced|rejected|delayed)"
    ),
    r"there was an error sending your mail|sorry, your message could not be delivered",
    r"unable to deliver|rejected mail",
    r"postfix smtp server: errors|couldn't deliver|can't deliver",
    r"message status - undeliverable|\[postmaster\]",
    # German, Dutch, the Nordic languages
    (
        r"(?:unzustellbar|nicht zustellbar"
        r"|zustellung (?:fehlgeschlagen|nicht möglich|der nachricht)"
        r"|fehler bei der zustellung)"
    ),
    r"mail(?:zustellung)? fehlgeschlagen|rückläufer|onbestelbaar|niet bezorgd",
    r"kan (?:inte|ikke) levereres?",
    r"olevererbart|uleverbar",
    # Romance languages
    r"non remis|échec de (?:la )?(?:remise|livraison)|notification d['’]échec",
    r"message non distribué|non distribuable",
    r"no se (?:puede|pudo) entregar|no entregado|error (?:de|en la) entrega|devuelto",
    r"correo devuelto",
    r"notificación de (?:error|estado)",
    r"mancato recapito|non recapitabile|notifica di mancato",
    r"não (?:foi possível entregar|entregue|é possível entregar)|falha na entrega",
    # Slavic languages, Turkish
    r"niedostarczon|nie można dostarczyć|nedoručiteln|недоставлен|не удается доставить",
    r"ваше сообщение не доставлено|teslim edilemedi",
    # Chinese, Japanese, Korean
    r"无法(?:送达|投递)|無法(?:傳遞|投遞)|(?:系统)?退信|未送达|未送達|投递失败|配信不能|未配信|配信(?:エラー|失敗)|配送(?:エラー|不能)|送信エラー",
    r"メール(?:が|は)?(?:配信|送信|送達)|배달되지|배달할 수|(?:전송|발송|배달) ?실패|반송",
)

# Words in the text of a bounce that people hardly write; for bounces with no other certain sign.
BOUNCE_TEXT = (
    r"this is the (?:mail|postfix|mail delivery|qmail-send|exim)",
    r"the following (?:addresses|recipients|address(?:es)? had|recipient\(?s|destination)",
    r"permanent(?:ly)? (?:fatal )?(?:error|failure|failed)",
    r"returning (?:message|mail) to sender",
    r"user unknown|unknown (?:user|recipient|address)|no such (?:user|recipient)",
    r"\b[45]\d\d[ -](?:\#?[45]\.\d{1,3}\.\d{1,3}|[A-Za-z<])|\b[45]\.\d\.\d{1,3}\b",
)
# Words that people write too ("the superbills did not reach the payer"): they make a bounce only of
# what a mail system sent.
BOUNCE_TEXT_OF_PEOPLE = (
    r"(?:was|were|is|has) ?(?:not|n't|unable to) ?(?:be|been)? deliver",
    r"(?:could|can|may) ?not (?:be )?deliver|couldn't be delivered",
    r"the following (?:address|recipient|user|message)|did not reach|wasn't delivered",
    r"unable to deliver|delivery (?:has )?failed|undeliver|returned (?:to|mail)",
    r"mailbox (?:is )?(?:full|unavailable|not found)",
    (
        r"(?:address|recipient|user|mailbox|account) .{0,40}"
        r"(?:not exist|rejected|disabled|unknown|not found)"
    ),
    r"届きません|配信できません|送信できません|エラーになり|送達できません|unzustellbar",
    r"не доставлено|投递",
)


# What newsletters say at their end, in the languages of mail programs.
UNSUBSCRIBE_PATTERN = re.compile(
    r"\bunsubscribe\b|opt[ -]?out\b|manage (?:your )?(?:e-?mail )?(?:preferences|subscriptions?)"
    r"|abmelden|abbestellen|abmeldung|newsletter (?:nicht|kündigen)|uitschrijven|afmelden"
    r"|avregistrera|afmeld|meld(?:e)? (?:deg|dig) (?:av|af)|peru(?:uta)? tilau"
    r"|se désabonner|désinscri|désabonne|darse de baja"
    r"|cancelar (?:la )?(?:suscripci|subscri|inscri)|anular (?:la )?suscripci|descadastr"
    r"|disiscri|cancella(?:ti|rsi|re) (?:l'iscri|dalla)"
    r"|wypisz|zrezygnuj|odhlásit|отписаться|отказаться от рассылки|aboneliğ|退订|取消订阅|取消訂閱"
    r"|配信停止|購読(?:解除|停止)|수신 ?거부",
    re.IGNORECASE,
)

_END = r"(?=\s*(?:$|[:：;,.!(\[\-–—|/]|\d|bis\b|until\b|from\b|von\b|re\b))"
_OPENING = r"\s*[\[(*\"'«„“]*\s*"

_CLOSED = r"[\])]?"
_COLON = r"\s*[:：]\s*"
# "Re:" of the subject that is answered.
_REPLY_MARK = r"(?:re|aw|sv|rv|tr|ref|antw|vs|回复|答复|転送|返信)\s*[:：]"
# Nothing but punctuation, dates, "until", and the words for days and months.
_NOTHING_ELSE = r"(?:[\s\d:：;,.!(){}\[\]\-–—|/*\"'»”]|bis\b|until\b|from\b|to\b|von\b|am\b|on\b)*$"
_DAY = (
    r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?|jan(?:uary)?|feb(?:ruary)?"
    r"|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)"
)
_ONLY_DATES = _NOTHING_ELSE.replace("bis\\b", _DAY + r"\b|bis\b", 1)


def _compile_beginning(*words: str, then: str = "") -> re.Pattern[str]:
    """Compile the expression of a subject that begins with any of some words."""
    return re.compile(rf"{_OPENING}(?:{'|'.join(words)}){then}", re.IGNORECASE)


AUTO_REPLY_SUBJECT_PATTERN = re.compile(
    rf"{_OPENING}(?:{'|'.join(AUTO_REPLY)})"
    rf"|{_OPENING}(?:{'|'.join(ABSENCE_PREFIXES)}){_CLOSED}{_END}",
    re.IGNORECASE,
)
ABSENCE_ALONE_PATTERN = _compile_beginning(*ABSENCE, then=_CLOSED + _ONLY_DATES)
ABSENCE_ANSWER_PATTERN = _compile_beginning(
    *ABSENCE, "auto", then=rf"{_CLOSED}{_COLON}{_REPLY_MARK}"
)
AUTO_OR_ABSENCE_PATTERN = _compile_beginning(
    rf"(?:{'|'.join(ABSENCE)}){_CLOSED}{_END}", r"auto\s*[:：]"
)
BOUNCE_SUBJECT_PATTERN = re.compile(rf"{_OPENING}(?:{'|'.join(BOUNCE)})", re.IGNORECASE)
BOUNCE_TEXT_PATTERN = re.compile("|".join(BOUNCE_TEXT), re.IGNORECASE)
BOUNCE_TEXT_OF_PEOPLE_PATTERN = re.compile("|".join(BOUNCE_TEXT_OF_PEOPLE), re.IGNORECASE)
