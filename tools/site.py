"""What the documentation site needs beyond MkDocs: links into the source tree become plain code.

The Markdown files are read in the repository too, where a link to a module or a spec leads to it;
the site holds the documents alone.
"""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+(?!docs/)[^)]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """MkDocs' hook: the Markdown of a page, links that climb out of ``docs/`` as code."""
    depth = page.file.src_uri.count("/")
    return OUTSIDE.sub(lambda link: _unlinked(link, depth), markdown)


def _unlinked(link: re.Match[str], depth: int) -> str:
    """The link itself where it stays inside, else its text (or the path) as code."""
    text, target = link[1], link[2]
    if target.count("../") <= depth:
        return link[0]
    return text if text.startswith("`") else f"{text} (`{target.replace('../', '')}`)"
