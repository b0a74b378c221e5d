"""Links that lead out of the docs folder, as they must on a code host, lead to the site's own copies here."""

from __future__ import annotations

import re
from typing import Any

_RECORD = re.compile(r"\]\((?:\.\./)+records/(?P<name>[\w-]+)\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    up = "../" * page.file.src_uri.count("/")
    markdown = _RECORD.sub(rf"]({up}records/\g<name>.md)", markdown)
    return markdown.replace("](../records)", f"]({up}records/index.md)")
