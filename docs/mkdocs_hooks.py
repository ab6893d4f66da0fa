# SPDX-License-Identifier: Apache-2.0
"""Hooks of the site: its navigation is the index, docs/README.md; links to the source become plain text."""

import re
from pathlib import Path
from typing import Any


DOCS = Path(__file__).parent
LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+\.md)\)")


def on_config(config: Any) -> Any:
    """One tab for each heading of the index, with the pages below it in that order."""
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    nav: list[dict[str, Any]] = [{"Home": "README.md"}]
    for part in index.split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        links = dict.fromkeys(path for _, path in LINK.findall(text))
        if links:
            nav.append({heading: list(links)})
    config.nav = nav
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """A link that leaves docs/ leads nowhere on the site: its text stays."""
    folder = (DOCS / page.file.src_path).parent

    def kept(match: re.Match[str]) -> str:
        outside = not match[2].startswith(("http", "#")) and not (
            folder / match[2].partition("#")[0]
        ).resolve().is_relative_to(DOCS)
        return match[1] if outside else match[0]

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", kept, markdown)
