"""HTML of strangers sanitised and converted to text, and bytes of any charset decoded."""

# ruff: noqa: RUF001 - words of many languages look like those of others

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selectolax.lexbor import LexborHTMLParser

from parsers.text import charsets, filenames
from parsers.text import html as text_html


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>kept",
        "<p onclick=alert(1)>kept</p>",
        "<iframe src=https://evil.example></iframe>kept",
        '<a href="javascript:alert(1)">kept</a>',
        "<form action=https://evil.example><input></form>kept",
        '<div style="background:url(https://evil.example/x)">kept</div>',
        '<p background="https://evil.example/x">kept</p>',
        '<img srcset="https://evil.example/x 2x" src="//evil.example/x">kept',
        '<video poster="https://evil.example/x"></video>kept',
        '<link rel=stylesheet href="https://evil.example/x">kept',
        "<style>@import url(https://evil.example/x)</style>kept",
        '<svg><image href="https://evil.example/x"/></svg>kept',
        "<meta http-equiv=refresh content='0;url=https://evil.example'>kept",
        '<img src="data:image/svg+xml;base64,PHN2Zz4=">kept',
        '<base href="https://evil.example/">kept',
    ],
)
def test_safe_html_neither_runs_nor_loads_anything(html: str) -> None:
    safe = text_html.sanitise(html)
    assert "kept" in safe
    for word in ("script", "evil.example", "onclick", "svg", "form", "javascript"):
        assert word not in safe


def test_images_of_others_wait_for_a_click_and_our_own_are_shown() -> None:
    safe = text_html.sanitise('<img src="https://x.example/a.png" alt="A"><img src="cid:b@x">')
    assert 'data-remote-src="https://x.example/a.png"' in safe
    assert ' src="https' not in safe
    assert 'src="cid:b@x"' in safe


def test_plain_text_shown_as_html_keeps_its_lines() -> None:
    safe = text_html.sanitise(text_html.text_to_html("one\ntwo"))
    assert "white-space: pre-wrap" in safe.replace(":pre", ": pre")
    assert "one\ntwo" in safe


def test_links_open_without_a_referrer() -> None:
    safe = text_html.sanitise(
        '<a href="https://x.example" target=_blank id=config name=attributes>x</a>'
    )
    assert safe == '<a href="https://x.example" rel="noopener noreferrer nofollow">x</a>'


@pytest.mark.parametrize(
    "html",
    [
        '<a href="/tickets/4711/close">kept</a>',
        '<a href="//evil.example">kept</a>',
        '<a href="?delete=1">kept</a>',
        '<a href="#top">kept</a>',
        '<a href="java&#x09;script:alert(1)">kept</a>',
        '<a href="\x01javascript:alert(1)">kept</a>',
        '<a href="vbscript:msgbox(1)">kept</a>',
        '<a href="data:text/html;base64,PHNjcmlwdD4=">kept</a>',
        '<a href="cid:page@x">kept</a>',
        '<a href="file:///etc/passwd">kept</a>',
    ],
)
def test_only_links_to_the_world_are_links(html: str) -> None:
    assert text_html.sanitise(html) == '<a rel="noopener noreferrer nofollow">kept</a>'


@pytest.mark.parametrize(
    "html",
    [
        "<!-- --!><img src=x onerror=alert(1)> -->",
        "<imgsrc=xonerror=alert(1)><img/src=x/onerror=alert(1)>",
        '<svg></p><style><a id="</style><img src=1 onerror=alert(1)>">',
        '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<![CDATA[<img src=x onerror=alert(1)>]]>",
        "<template><img src=x onerror=alert(1)></template>",
        "<scr\0ipt>alert(1)</scr\0ipt>",
        '<img src="cid:../../../../etc/passwd">',
        '<img data-remote-src="javascript:alert(1)">',
        '<img src="https://x.example/?leak=',
        '<div style="position:fixed;top:0;left:0;width:100%;height:100%">',
        '<div style="background-image:image-set(https://x.example/a 1x)">',
        '<div style="width:expression(alert(1));behavior:url(x.htc);-moz-binding:url(x)">',
        "<form id=csrf_token><input name=attributes autofocus onfocus=alert(1)></form>",
    ],
)
def test_what_browsers_make_of_broken_html_is_harmless(html: str) -> None:
    nodes = LexborHTMLParser(text_html.sanitise(html)).css("body *")
    assert {node.tag for node in nodes} <= {"a", "div", "img", "p"}
    assert {name for node in nodes for name in node.attributes} <= {
        "data-remote-src",
        "rel",
        "style",
        "title",
    }
    written = " ".join(
        value or "" for node in nodes for name, value in node.attributes.items() if name != "title"
    )
    assert not re.search(r"javascript|position|url\(|expression|image-set", written)


def test_a_linked_image_waits_for_a_click_whatever_it_is_called() -> None:
    address = "https://x.example/a.png?b=1&amp;c=&quot;"
    safe = text_html.sanitise(
        f'<img src=" {address} " srcset="https://x.example/b 2x" alt="Logo" onload=x width=10>'
    )
    assert safe == f'<img data-remote-src="{address}" alt="Logo" width="10">'


@pytest.mark.parametrize(
    ("html", "shown"),
    [
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("one<br>two", "one\ntwo"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<table><tr><td>a<td>b<tr><td>c</table>", "a  b\nc"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("a \n b&nbsp;&amp;&#x20AC;", "a b\xa0&€"),
        ("<blockquote>old</blockquote>new", "> old\n\nnew"),
        ("<title>x</title><style>y</style><!-- z -->shown", "shown"),
        ("<b>bo</b>ld", "bold"),
        ("", ""),
    ],
)
def test_html_reads_as_it_looks(html: str, shown: str) -> None:
    assert text_html.html_to_text(html) == shown


@pytest.mark.parametrize(
    "html", ["<div>" * 50_000, "<p><b>" * 20_000, "<table>" * 20_000, "<!" * 60_000, "&" * 100_000]
)
def test_hostile_html_costs_bounded_time(html: str) -> None:
    started = time.process_time()
    text_html.html_to_text(html)
    text_html.sanitise(html)
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    ("written", "label", "shown"),
    [
        ("naïve – €".encode(), "", "naïve – €"),
        ("naïve – €".encode(), "iso-8859-1", "naïve – €"),
        ("“quoted” €".encode("cp1252"), "iso-8859-1", "“quoted” €"),
        ("Привет, мир".encode("koi8-r"), "koi8-r", "Привет, мир"),
        ("朱镕基".encode("gbk"), "gb2312", "朱镕基"),
        ("联通".encode("gbk"), "gb2312", "联通"),
        ("①②㈱".encode("cp932"), "shift_jis", "①②㈱"),
        ("똠방각하".encode("cp949"), "ks_c_5601-1987", "똠방각하"),
        ("日本語のメール".encode("iso2022_jp"), "", "日本語のメール"),
        (b"\x1b$B-!\x1b(B", "iso-2022-jp", "①"),
        (b"Hi Mom +Jjo-!", "utf-7", "Hi Mom ☺!"),
        ("hallo".encode("utf-16"), "utf-16", "hallo"),
        ("hallo".encode("utf-16-be"), "utf-16", "hallo"),
        (b"caf\xe9", "no-such-charset", "café"),
        (b"caf\xc3\xa9 \xff", "utf-8", "café \ufffd"),
        (b"a\x00b", "", "ab"),
        ("שלום".encode("iso-8859-8"), "iso-8859-8-i", "שלום"),
    ],
)
def test_bytes_are_what_they_are_whatever_their_label(
    written: bytes, label: str, shown: str
) -> None:
    assert charsets.decode(written, label) == shown


def test_long_unlabelled_cyrillic_is_recognised() -> None:
    written = "Здравствуйте, у меня вопрос о счёте за прошлый месяц. Пожалуйста, ответьте мне."
    assert charsets.decode(written.encode("cp1251")) == written


@settings(deadline=None, max_examples=100)
@given(
    st.binary(max_size=200),
    st.sampled_from(["", "utf-8", "gb2312", "iso-2022-jp", "utf-16", "utf-7", "hz", "bz2", "x\0"]),
)
def test_decoding_never_fails_and_is_storable(data: bytes, label: str) -> None:
    decoded = charsets.decode(data, label)
    assert "\0" not in decoded
    decoded.encode()


@pytest.mark.parametrize(
    ("given_name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\claims.xlsx", "claims.xlsx"),
        ("a\u202efdp.exe", "afdp.exe"),
        ("line\r\nbreak.txt", "linebreak.txt"),
        ("..", ""),
        ("", ""),
        ("Ünïcode 名前.pdf", "Ünïcode 名前.pdf"),
        ("dir/", "dir"),
        ("x" * 500 + ".pdf", "x" * 176 + ".pdf"),
    ],
)
def test_file_names_are_safe_and_else_as_sent(given_name: str, kept: str) -> None:
    assert filenames.make_safe(given_name) == kept
