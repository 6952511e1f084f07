"""What the webhook itself needs of a body: form and submission, and its HandshakeKey, which is never stored."""

import re
from urllib.parse import parse_qsl, unquote_to_bytes

_JSON_VALUE = rb'"%s"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|([0-9]{1,30}))'
_JSON_SHAKE = re.compile(rb'("HandshakeKey"\s*:\s*)"(?:[^"\\]|\\.)*"')
_LONGEST = 200  # characters of a form's number or key


def form_id(raw: bytes) -> str:
    """The FormID a body names, "" if none. Read by eye, before anything parses the body in earnest."""
    return _named(raw, "FormID")


def reference(raw: bytes) -> str:
    """The submission's own name at Formstack, "FormID/UniqueID"; "" where the body does not say both."""
    form, submission = form_id(raw), _named(raw, "UniqueID")
    return f"{form}/{submission}" if form and submission else ""


def handshake_of(raw: bytes) -> str:
    """The HandshakeKey a body carries, "" if none."""
    return _named(raw, "HandshakeKey")


def without_handshake(raw: bytes) -> bytes:
    """The body with its HandshakeKey taken out, every other byte as it was."""
    if _is_json(raw):
        return _JSON_SHAKE.sub(rb'\1""', raw)
    pairs = raw.split(b"&")
    return b"&".join(p for p in pairs if unquote_to_bytes(p.partition(b"=")[0]) != b"HandshakeKey")


def _named(raw: bytes, name: str) -> str:
    if _is_json(raw):
        found = re.search(_JSON_VALUE % name.encode(), raw)
        return (found[1] or found[2] or b"").decode(errors="replace")[:_LONGEST] if found else ""
    for pair in raw.split(b"&"):
        if pair.startswith(name.encode() + b"="):
            return dict(parse_qsl(pair.decode("latin-1"), encoding="utf-8")).get(name, "")[:_LONGEST]
    return ""


def _is_json(raw: bytes) -> bool:
    return raw.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"{", b"["}
