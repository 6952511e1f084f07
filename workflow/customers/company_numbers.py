"""Numbers of practices: the form in which they are stored, and the one in which they are compared.

Spreadsheets and people write one number in many ways: `00471`, `471`, `="00471"`, `471.0`,
`No. 471`. Some write a word or a zero where there is none.
"""

import re
import unicodedata
from decimal import Decimal

from workflow.customers import company_names

MAX_NUMBER = 64  # characters, the length of the column companies.number
_MAX_GIVEN = 200  # characters that are looked at

_FORMULA = re.compile(r'="?([^"]*)"?')  # what keeps Excel from dropping zeros
_LABEL = re.compile(
    r"(?:(?:practice|clinic|customer|client|account|acct|number|num|no|nr|id)[.:\s]+)*#?\s*(\d+)",
    re.IGNORECASE,
)
_DECIMALS = re.compile(r"(\d+)[.,]0+")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
# As Excel shows a number that is wide: 1.00471E+05. Without point and sign it is a code, 1E5.
_SCIENTIFIC = re.compile(r"\d\.\d+E\+?\d{1,2}|\dE\+\d{1,2}", re.IGNORECASE)


def normalize(number: str) -> str:
    """Return a practice's number as it is stored; "" for a word or zeros that are no number.

    Zeros at the beginning stay. A number in scientific notation whose last digits are lost is "".
    Example: `="00471"`, `00471.0` and `No. 00471` are `00471`.
    """
    plain = unicodedata.normalize("NFKC", company_names.remove_invisible(number[:_MAX_GIVEN]))
    plain = " ".join(plain.split()).strip("'`\u2018\u2019\" ")
    if (formula := _FORMULA.fullmatch(plain)) is not None:
        plain = formula[1].strip()
    plain = _read_figures(plain)
    if not plain.strip("0") or not company_names.normalize(plain):
        return ""
    return plain[:MAX_NUMBER]


def _read_figures(text: str) -> str:
    """Return the digits of a number with a label, decimals, or an exponent; other text as it is."""
    if (labelled := _LABEL.fullmatch(text)) is not None:
        return labelled[1]
    if (decimals := _DECIMALS.fullmatch(text)) is not None:
        return decimals[1]
    if _THOUSANDS.fullmatch(text):
        return text.replace(",", "")
    if _SCIENTIFIC.fullmatch(text):
        value = Decimal(text)
        # More places than digits: Excel has rounded, and many numbers look like this one.
        has_all_digits = f"{value:f}" == f"{value.normalize():f}" == str(value)
        return str(value) if has_all_digits else ""
    return text


def is_plain(number: str) -> bool:
    """Return whether a practice's number is nothing but digits."""
    return number.isascii() and number.isdigit()


def fold(number: str) -> str:
    """Return a number in its normal form as it is compared: Excel drops zeros at the beginning."""
    return number.lstrip("0") if is_plain(number) else number
