"""Colours of HTML that keep all words visible, whatever else of its look is dropped.

A page of ours shows a mail without its style sheets and pictures. What is left can be white words
on a page that is no longer dark.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import tinycss2
from selectolax.lexbor import LexborHTMLParser, LexborNode
from tinycss2.color4 import parse_color

# Contrasts of words, of 21 (black on white). Senders use no less than the first on purpose: light
# grey for notes has 2. Links that have no colour of their own get no less than the second.
MIN_CONTRAST = 1.8
MIN_LINK_CONTRAST = 4.5
MAX_STYLE = 4000  # characters of a style attribute; a longer one is dropped

Color: TypeAlias = tuple[float, float, float]  # red, green, blue in sRGB, 0 to 1
Style: TypeAlias = dict[str, str]  # values by property
WHITE: Color = (1.0, 1.0, 1.0)
BLACK: Color = (0.13, 0.15, 0.16)
LINK: Color = (0.0, 0.0, 0.93)  # the colour browsers give a link that has none


@dataclass(frozen=True, slots=True)
class _Look:
    """The colours of an element as they are shown, its own or inherited ones."""

    text: Color
    background: Color


def make_legible(tree: LexborHTMLParser, tags: Collection[str]) -> str:
    """Give each element of a tree a style attribute in which its words can be seen.

    Old attributes for colours become styles, and the colour of a background survives its picture.
    Words with next to no contrast get black or white. Only elements in `tags` are shown; others,
    whose content may be, pass no colour on. Returns the style of the body, "" for none: it is for
    the element that takes the body's place.
    """
    body = tree.body
    if body is None:
        return ""
    looks = {body.mem_id: _rewrite(body, _Look(BLACK, WHITE))}
    for node in body.traverse(include_text=False):
        parent = node.parent
        if node.mem_id in looks or parent is None:
            continue
        look = looks.get(parent.mem_id, looks[body.mem_id])
        looks[node.mem_id] = _rewrite(node, look) if node.tag in tags else look
    return body.attributes.get("style") or ""


def _rewrite(node: LexborNode, around: _Look) -> _Look:
    """Rewrite the style of an element within one that looks as `around`; return its look."""
    attributes = node.attributes
    if not attributes:
        return around
    style = _collect_style(attributes)
    background = _blend(style.get("background-color"), around.background)
    if node.tag == "a" and "href" in attributes and "color" not in style:
        text, minimum = LINK, MIN_LINK_CONTRAST
    else:
        text = _blend(style.get("color"), background, default=around.text)
        # Without colours of its own it is as easy to see as what is around it.
        minimum = 0 if style.keys().isdisjoint(("color", "background-color")) else MIN_CONTRAST
    if _compare(text, background) < minimum:
        text = max(BLACK, WHITE, key=lambda color: _compare(color, background))
        style["color"] = _serialize_color(text)
    _write_style(node, style)
    return _Look(text, background)


def _collect_style(attributes: Mapping[str, str | None]) -> Style:
    """Return the style of an element, with the colours of its HTML 4 attributes."""
    style = dict(_parse_style(attributes.get("style") or ""))
    _add_old_attribute(style, "background-color", attributes.get("bgcolor"))
    _add_old_attribute(style, "color", attributes.get("color") or attributes.get("text"))
    return style


def _write_style(node: LexborNode, style: Style) -> None:
    if style:
        node.attrs["style"] = ";".join(f"{name}:{value}" for name, value in style.items())
    elif "style" in node.attributes:
        del node.attrs["style"]


def _add_old_attribute(style: Style, name: str, value: str | None) -> None:
    """Add the colour of an HTML 4 attribute, unless the style has one."""
    if not value or name in style:
        return
    color = _read_color(value.strip()) or _read_color(f"#{value.strip()}")
    if color is not None:
        style[name] = color


@lru_cache(maxsize=2048)
def _parse_style(style: str) -> tuple[tuple[str, str], ...]:
    """Return properties and values of a style attribute; of colours only those that are known.

    Values with blocks or functions are left out: our sanitiser keeps none that needs them.
    """
    if len(style) > MAX_STYLE:
        return ()
    found: Style = {}
    for declaration in tinycss2.parse_blocks_contents(style):
        if declaration.type != "declaration":
            continue
        name, value = declaration.lower_name, declaration.value
        if name in {"color", "background-color", "background"}:
            tokens = (token for token in value if token.type in {"hash", "ident", "function"})
            color = next(filter(None, map(_read_color, tokens)), None)
            if color is not None:
                found["color" if name == "color" else "background-color"] = color
        elif not any(token.type.endswith(("block", "function")) for token in value):
            found[name] = tinycss2.serialize(value).strip()
    return tuple(found.items())


def _read_color(value: Any) -> str | None:
    """Return a colour of a token or text as we write it; None for none, as `currentcolor`."""
    color = parse_color(value)
    if color is None or isinstance(color, str):
        return None
    try:
        parts = [float(part) for part in color.to("srgb").coordinates]
    except NotImplementedError:  # of a space that tinycss2 does not convert
        return None
    if not all(map(math.isfinite, (*parts, color.alpha))):
        return None
    red, green, blue = parts
    if color.alpha >= 1:
        return _serialize_color((red, green, blue))
    return f"rgba({','.join(map(str, map(_to_byte, parts)))},{max(color.alpha, 0):.2f})"


def _serialize_color(color: Color) -> str:
    return "#" + "".join(f"{_to_byte(part):02x}" for part in color)


def _to_byte(part: float) -> int:
    return round(255 * min(max(part, 0), 1))


def _blend(value: str | None, behind: Color, *, default: Color | None = None) -> Color:
    """Return a colour as it looks before another; `default` for None, else the one behind."""
    color = parse_color(value) if value else None
    if color is None:
        return default if default is not None else behind
    alpha = min(max(color.alpha, 0), 1)
    pairs = zip(color.coordinates, behind, strict=True)
    red, green, blue = (alpha * part + (1 - alpha) * other for part, other in pairs)
    return red, green, blue


def _compare(one: Color, other: Color) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    lighter, darker = sorted((_get_luminance(one), _get_luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _get_luminance(color: Color) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4  # noqa: PLR2004
        for part in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
