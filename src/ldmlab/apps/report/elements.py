"""Elements of HTML and SVG: whatever is no markup already is escaped."""

from __future__ import annotations

import html

_VOID = {"meta", "img"}


class Markup(str):
    """Text that is markup, and not to be escaped again."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """An element with what it holds.

    Args:
        tag: Its name.
        *children: Markup as it is, any other text escaped.
        **attributes: A `_` at the end of a name is dropped and one inside becomes `-`; those that
            are None are left out.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{given}>")
    return Markup(f"<{tag}{given}>{joined(*children)}</{tag}>")


def joined(*parts: str) -> Markup:
    """Parts after each other, those escaped that are no markup."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(p) for p in parts))
