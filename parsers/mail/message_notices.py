"""Wording of messages about a message, which a program wrote: receipts, recalls, challenges.

- A *read receipt* says that a mail was read, or deleted unread (RFC 8098). Exchange and older
  programs send it as plain words, without the part that proves it.
- A *recall* is what Outlook sends to those whose mailbox it cannot reach into: the sender would
  like to take an earlier message back. It withdraws nothing by itself.
- A *challenge* is the answer of a spam filter that holds a mail until its sender has shown to be a
  person (RFC 3834 §2, "challenge/response"). Until somebody does, the mail is not delivered.

Each needs two things together, so that a person who writes of a recall or of a mail that was held
is not taken for a program.
"""

# ruff: noqa: RUF001 - words of many languages look like those of others

import re
from collections.abc import Iterator

MAX_TEXT = 3000  # characters of such a message; longer ones are mails that mention one
_REST = r".{0,400}?"  # of a list "To: … Subject: … Sent: …" between two halves of a sentence

# What mail programs put before the subject of the mail that was read, or deleted unread.
_RECEIPT_SUBJECTS = (
    r"(?:not )?read|return receipt(?: \(displayed\))?|read receipt|delivery/read receipt",
    r"(?:nicht )?gelesen|ungelesen(?: gelöscht)?|lesebestätigung|empfangsbestätigung",
    r"(?:non )?lu|accusé de (?:lecture|réception)(?: \(affiché\))?",
    r"(?:no )?leído|acuse de (?:lectura|recibo)|confirmación de lectura",
    r"(?:non )?letto|ricevuta di (?:lettura|ritorno)|conferma di lettura",
    r"(?:não )?lid[ao]|recibo de leitura|confirmação de leitura",
    r"(?:niet |on)?gelezen|leesbevestiging|ontvangstbevestiging",
    r"(?:o)?läst|läskvitto|(?:u)?læst|læsekvittering|(?:u)?lest|lesebekreftelse|luettu|lukukuittaus",
    r"przeczytano|nie przeczytano|potwierdzenie przeczytania|přečteno|прочитано|не прочитано",
    r"(?:未)?已读|已讀|開封(?:済み|確認)|okundu|읽음",
)
_RECEIPT_TEXTS = (
    (
        rf"\byour (?:message|e-?mail|mail)\b{_REST}\b(?:was|has been) (?:read|displayed|opened"
        r"|deleted without being read)\b"
    ),
    r"\bthis is a (?:return )?receipt for the (?:e-?mail|mail|message)\b",
    (
        rf"\bihre (?:nachricht|e-?mail|mail)\b{_REST}\bwurde\b.{{0,80}}?\b(?:gelesen|angezeigt"
        r"|ungelesen gelöscht)"
    ),
    rf"\bvotre (?:message|courriel|e-?mail)\b{_REST}\ba été (?:lu|affiché|supprimé sans)",
    (
        rf"\b(?:el|su) (?:mensaje|correo)\b{_REST}\b(?:se (?:leyó|mostró|eliminó sin)"
        r"|(?:fue|ha sido) (?:leído|mostrado|eliminado sin))"
    ),
    rf"\bmessaggio\b{_REST}\b(?:è stato|è stata) (?:letto|visualizzato|eliminato senza)",
    rf"\bmensagem\b{_REST}\bfoi (?:lida|exibida|excluída sem|eliminada sem)",
    rf"\buw (?:bericht|e-?mail)\b{_REST}\b(?:is|werd) (?:gelezen|weergegeven|ongelezen)",
    (
        rf"\b(?:ditt|dit) (?:meddelande|meddelelse|melding)\b{_REST}\b(?:lästes|har lästs|blev læst"
        r"|ble lest)"
    ),
    rf"\b(?:twoja )?wiadomość\b{_REST}\bzostała przeczytana",
    rf"\bсообщение\b{_REST}\bбыло прочитано",
)
_RECALL_SUBJECTS = (
    r"recall|message recall",
    r"rückruf|zurückrufen|nachrichtenrückruf",
    r"rappel(?: du message)?",
    r"recuperar|recuperación|retirar",
    r"richiamo|richiama",
    r"recolher|cancelar|cancelamento",
    r"intrekken|intrekking",
    r"återkalla|återkallande|tilbagekald|tilbakekall|palauta",
    r"odwołaj|odwołanie|odvolat|отзыв|отозвать|撤回|召回|リコール|取り消し",
)
_NAME = r".{1,120}?"
_MESSAGE = r"[\"'“”„«‹‘’]\s?.{0,300}?\s?[\"'“”»›’‘]"  # always its subject, in quotes
_RECALL_SENTENCES = (
    rf"{_NAME} would like to recall the (?:message|e-?mail),? {_MESSAGE}\.?",
    rf"{_NAME} möchte die (?:nachricht|e-?mail),? {_MESSAGE} zurückrufen\.?",
    rf"{_NAME} (?:souhaite|souhaiterait|aimerait|désire) rappeler le message,? {_MESSAGE}\.?",
    rf"{_NAME} (?:quiere|desea|querría|quisiera) (?:recuperar|retirar) el mensaje,? {_MESSAGE}\.?",
    rf"{_NAME} (?:desidera|vorrebbe) richiamare il messaggio,? {_MESSAGE}\.?",
    rf"{_NAME} (?:gostaria de|deseja) (?:recolher|cancelar|recuperar) a mensagem,? {_MESSAGE}\.?",
    rf"{_NAME} (?:wil|zou) (?:graag )?het bericht,? {_MESSAGE} (?:willen )?intrekken\.?",
    rf"{_NAME} vill återkalla meddelandet,? {_MESSAGE}\.?",
    (
        rf"{_NAME} (?:vil|ønsker å|ønsker at) (?:tilbagekalde|tilbakekalle)"
        rf" (?:meddelelsen|meldingen),? {_MESSAGE}\.?"
    ),
    rf"{_NAME} chce odwołać wiadomość,? {_MESSAGE}\.?",
    rf"{_NAME} (?:хочет|хотел\(а\) бы) отозвать сообщение,? {_MESSAGE}\.?",
)
# A mail of ours is held back …
_HELD = (
    (
        r"\byour (?:message|e-?mail|mail)(?: to .{1,100}?)? (?:is|was|has|will be)(?: been)?"
        r" (?:currently |being |temporarily )*(?:held|quarantined|on hold|blocked|waiting|awaiting"
        r"|kept|not (?:been |yet )*delivered)"
    ),
    (
        r"\bihre (?:nachricht|e-?mail|mail)\b.{0,60}?\b(?:wird|wurde|ist)\b.{0,60}?"
        r"\b(?:zurückgehalten|angehalten|nicht zugestellt|quarantäne|blockiert)"
    ),
    (
        r"\bvotre (?:message|courriel|e-?mail)\b.{0,40}?\b(?:est|a été) (?:mis |retenu|en attente"
        r"|bloqué|en quarantaine)"
    ),
    (
        r"\bsu (?:mensaje|correo)\b.{0,40}?\b(?:está|ha sido|fue) (?:retenido|en espera|bloqueado"
        r"|en cuarentena)"
    ),
    r"\bmessaggio\b.{0,40}?\b(?:è|è stato) (?:trattenuto|in attesa|bloccato|in quarantena)",
    r"\bmensagem\b.{0,40}?\b(?:está|foi) (?:retida|em espera|bloqueada|em quarentena)",
    (
        r"\buw (?:bericht|e-?mail)\b.{0,40}?\b(?:wordt|is|werd) (?:vastgehouden|tegengehouden"
        r"|geblokkeerd|in quarantaine)"
    ),
)
# … until its sender shows that a person sent it.
_CONFIRM = (
    (
        r"\b(?:confirm|verify|validate|authenticate|prove|authorize)\b.{0,80}?\b(?:here|below|yourself"
        r"|human|person|(?:you|sender)(?: are|['’]re| is)?|identity|address|message|e-?mail|link)\b"
    ),
    r"\buntil (?:you|the sender) (?:confirm|verif|respond|repl|click|prove)",
    r"\b(?:human|real person|not a (?:spammer|robot|machine))\b",
    r"\bbestätig\w*\b.{0,80}?\b(?:hier|link|absender|mensch|person|adresse|nachricht)",
    r"\bconfirm(?:er|ez)\b.{0,80}?\b(?:ici|lien|adresse|identité|humain|message)",
    (
        r"\bconfirm(?:e|ar)\b.{0,80}?\b(?:aquí|aqui|enlace|link|dirección|identidad|identidade|humano"
        r"|mensaje|mensagem)"
    ),
    r"\bconferm(?:i|are)\b.{0,80}?\b(?:qui|link|indirizzo|identità|umano|messaggio)",
    r"\bbevestig\w*\b.{0,80}?\b(?:hier|link|adres|mens|afzender|bericht)",
)
_LINK_OR_REPLY = re.compile(
    r"https?://|\b(?:reply to this|replying to this|antworten sie auf|répondez à|responda a"
    r"|rispond\w+ a|beantwoord)",
    re.IGNORECASE,
)


def _compile(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE | re.DOTALL)


def _compile_subject(*words: str) -> re.Pattern[str]:
    """Compile the expression of a subject that begins with any of some words and a colon."""
    return re.compile(rf"\s*(?:{'|'.join(words)})\s*[:：]", re.IGNORECASE)


_RECEIPT_SUBJECT = _compile_subject(*_RECEIPT_SUBJECTS)
_RECEIPT_TEXT = _compile(*_RECEIPT_TEXTS)
RECALL_SUBJECT = _compile_subject(*_RECALL_SUBJECTS)
_RECALL_TEXT = _compile(*_RECALL_SENTENCES)
_HELD_TEXT, _CONFIRM_TEXT = _compile(*_HELD), _compile(*_CONFIRM)


def find_notice_signs(subject: str, text: str) -> Iterator[str]:
    """Yield the names of the signs (`parsers.mail.evidence`) that subject and text are together."""
    words = text.strip()
    if not words or len(words) > MAX_TEXT:
        return
    if _RECEIPT_SUBJECT.match(subject) and _RECEIPT_TEXT.search(words):
        yield "read-receipt-wording"
    if _is_recall(subject, words):
        yield "recall"
    elif _is_challenge(words):
        yield "challenge"


def _is_recall(subject: str, words: str) -> bool:
    """Return whether a message is a recall: by both, or by a text that is nothing but it."""
    if RECALL_SUBJECT.match(subject) and _RECALL_TEXT.search(words):
        return True
    return _RECALL_TEXT.fullmatch(words) is not None


def _is_challenge(words: str) -> bool:
    return bool(
        _HELD_TEXT.search(words) and _CONFIRM_TEXT.search(words) and _LINK_OR_REPLY.search(words)
    )
