"""Pages of a list: what a client asks for, what it gets, and where it goes on."""

from fastkit.pages.cursors import Signer
from fastkit.pages.pages import (
    LARGEST_SIZE,
    LAST_PAGE,
    Count,
    CountUpTo,
    Page,
    PageQuery,
    Slice,
    Window,
    WindowQuery,
)

__all__ = [
    "LARGEST_SIZE",
    "LAST_PAGE",
    "Count",
    "CountUpTo",
    "Page",
    "PageQuery",
    "Signer",
    "Slice",
    "Window",
    "WindowQuery",
]
