# SPDX-License-Identifier: Apache-2.0
"""Hooks of the site: its navigation comes from the index, docs/README.md; links out of docs/ lead to GitHub."""

import logging
import os
import re
from pathlib import Path
from typing import Any


DOCS = Path(__file__).parent
# Below mkdocs' own logger: a warning ends a strict build.
log = logging.getLogger("mkdocs.hooks")
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
    """Point links that leave docs/ at GitHub; where the repository is unknown, keep only their text."""
    folder = (DOCS / page.file.src_path).parent
    # Set in a workflow. A build elsewhere cannot know where the source is published.
    repository = os.environ.get("GITHUB_REPOSITORY")
    server = os.environ.get("GITHUB_SERVER_URL", "https://github.com")

    def outside(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, hash_sign, anchor = target.partition("#")
        file = (folder / path).resolve()
        if re.match(r"[a-z]+:", target) or file.is_relative_to(DOCS):
            return match[0]
        if not file.exists():
            log.warning("%s: links to %s, which does not exist", page.file.src_path, path)
            return text
        if repository is None:
            return text
        name = file.relative_to(DOCS.parent).as_posix()
        return f"[{text}]({server}/{repository}/blob/main/{name}{hash_sign}{anchor})"

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", outside, markdown)


def on_page_content(html: str, page: Any, **_: Any) -> str:
    """Link the Python API, which pdoc writes beside the built pages, so that no Markdown link can name it."""
    if page.file.src_uri != "reference/python-api.md":
        return html
    return html.replace("<code>api/</code>", '<a href="../api/index.html"><code>api/</code></a>')
