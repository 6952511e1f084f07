"""Charset of 8-bit text without a label: read right, or marked as unreadable, never in doubt."""

# ruff: noqa: RUF001 - letters of many languages

import pytest

from parsers.mail import body, message
from parsers.text import charsets

# Names, words and sentences as people write them to a support desk.
TEXTS = {
    "gb18030": (
        "请问理赔款何时到账",
        "您好谢谢",
        "王小明先生",
        "张伟李娜",
        "保险公司拒绝付款",
        "我的账单有问题，请回复。",
        "附件是病人的发票",
        "上海诊所",
    ),
    "cp950": (
        "您好謝謝",
        "陳美玲小姐",
        "保險公司拒絕付款",
        "我的帳單有問題，請回覆。",
        "台北診所",
        "林志明醫師",
    ),
    "cp932": (
        "請求書について",
        "ありがとう",
        "よろしくお願いします。",
        "田中太郎様",
        "カルテの番号",
        "保険の支払いはいつですか",
        "東京クリニック",
    ),
    "euc_jp": ("請求書について教えてください", "よろしくお願いします。"),
    "cp949": (
        "안녕하세요",
        "청구서를 다시 보내 주세요.",
        "김영희입니다",
        "보험금 지급이 거절되었습니다",
        "서울병원",
    ),
    "mac-roman": (
        "Die Rechnung für März ist größer als möglich",
        "J’ai reçu la facture, merci beaucoup à l’équipe",
        "¿Cuándo llegará el pago de mañana?",
        "Café déjà payé",
        "The “claim” isn’t paid – why?",
    ),
    "cp1251": (
        "Привет, мир",
        "Здравствуйте, когда оплата?",
        "Иван Петров",
        "Счёт не оплачен",
        "Дякую за відповідь",
    ),
    "koi8-r": ("Привет, мир", "Здравствуйте, когда оплата?", "Иван Петров", "Счет не оплачен"),
    "cp1253": ("Καλημέρα σας", "Πότε θα πληρωθεί;"),
    "cp1255": ("מתי התשלום יגיע",),
    "cp1256": ("السلام عليكم", "متى يصل الدفع؟"),
    "cp1250": ("Proszę o wysłanie faktury za żółtą łódź",),
    "cp1252": (
        "Müller",
        "Grüße aus Köln",
        "Füße, Äpfel und Öl",
        "GRÜSSE AUS KÖLN",
        "créée à l’été",
        "ÉCOLE",
        "où êtes-vous",
        "«Très bien»",
        "Noël – l’œuvre",
        "¿Qué pasó mañana?",
        "Señor Núñez",
        "São Paulo: não está",
        "Ångström søker æble",
        "Mäkelä Hyvää päivää",
        "Þórður Ásgeirsson þakkar",
        "“Claim” – 100 € … ok",
        "don’t",
        "§ 5 Abs. 2, 25°C",
        "½ of 3 × 4",
        "•\xa0item",
    ),
}
# Alone, above and between ASCII lines, behind 10,000 characters, within a line, and with CR LF.
LAYOUTS = (
    "{}",
    "{}\nClaim 4711, Sunrise Clinic, please answer by Friday.\nPat",
    "Hello,\n\n{}\n\nClaim 4711\nPat",
    "Claim 4711 is open.\n" * 500 + "{}",
    "{}, Claim 4711 (Clinic)",
    "Dear desk,\r\n{}\r\nPat\r\n",
)
LINES = [(codec, text) for codec, texts in TEXTS.items() for text in texts]
# Letters that have the same bytes in a charset of another language: labels decide.
LABELLED = (
    ("cp1250", "windows-1250", "Dziękuję bardzo"),
    ("iso8859-2", "iso-8859-2", "Prosím o zaslání faktury, děkuji"),
    ("cp1254", "windows-1254", "Ağrı Sağlık Ocağı"),
    ("iso8859-9", "iso-8859-9", "Lütfen faturayı gönderin"),
    ("cp1252", "iso-8859-1", "äöüÄÖÜß"),
)
# What no charset here explains.
NOISE = (b"\x81\x8d\x8f\x90\x9d\xfe\xff\x81", b"\xff\x81\xfd\x8d\xd7\x01\xf7\x90\xbf\xff\xb7\x9d")


@pytest.mark.parametrize(("codec", "text"), LINES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=range(len(LAYOUTS)))
def test_unlabelled_text_is_read(codec: str, text: str, layout: str) -> None:
    written = layout.format(text)
    assert charsets.decode(written.encode(codec)) == written


@pytest.mark.parametrize("label", ["us-ascii", "iso-8859-1", "unknown-8bit", "x-unknown", "utf-8"])
@pytest.mark.parametrize(("codec", "text"), LINES)
def test_a_wrong_label_changes_nothing(codec: str, text: str, label: str) -> None:
    assert charsets.decode(text.encode(codec), label) == text


@pytest.mark.parametrize(("codec", "label", "text"), LABELLED)
def test_a_label_that_fits_is_believed(codec: str, label: str, text: str) -> None:
    assert charsets.decode(text.encode(codec), label) == text


@pytest.mark.parametrize("noise", NOISE)
def test_what_no_charset_explains_is_marked(noise: bytes) -> None:
    decoded = charsets.decode(b"Claim 4711 " + noise)
    assert decoded.startswith("Claim 4711 ")
    assert "\ufffd" in decoded
    assert all(char < "\x80" or char == "\ufffd" for char in decoded)


def test_unreadable_characters_have_a_caveat() -> None:
    header = b"From: jane@clinic.example\nSubject: Claim\n\nHello,\n"
    [damaged] = message.parse(header + NOISE[0] + b"\nJane\n")
    [readable] = message.parse(header + "请问理赔款何时到账".encode("gbk") + b"\nJane\n")
    assert body.UNREADABLE in damaged.caveats
    assert body.UNREADABLE not in readable.caveats
    assert "请问理赔款何时到账" in readable.text
