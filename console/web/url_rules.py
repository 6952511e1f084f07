"""URL rules that compile their URL builders when first needed, so that the app starts sooner."""

from collections.abc import Callable

from werkzeug.routing import Rule

UrlBuilder = Callable[..., tuple[str, str]]


class LazyRule(Rule):
    """A URL rule whose two functions for building URLs are compiled when they are first called.

    werkzeug compiles both when a rule is added: 40 ms of processor time for our 166 rules. A
    process builds the URLs of a few of them; most are only ever matched.
    """

    def _compile_builder(self, append_unknown: bool = True) -> UrlBuilder:  # noqa: FBT001, FBT002
        return _compile_and_build_with_query if append_unknown else _compile_and_build


# Any name can be one of the values of a URL, so the rule is given by position only.
def _compile_and_build(rule: Rule, /, **values: object) -> tuple[str, str]:
    rule._build = Rule._compile_builder(rule, append_unknown=False).__get__(rule)  # noqa: SLF001
    return rule._build(**values)  # noqa: SLF001


def _compile_and_build_with_query(rule: Rule, /, **values: object) -> tuple[str, str]:
    rule._build_unknown = Rule._compile_builder(rule).__get__(rule)  # noqa: SLF001
    return rule._build_unknown(**values)  # noqa: SLF001
