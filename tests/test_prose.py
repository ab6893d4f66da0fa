# SPDX-License-Identifier: Apache-2.0
"""The words of the project: pages are short, and no page or message uses a word that only we would understand."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MOST_WORDS, MOST_WORDS_OF_A_SENTENCE = 1500, 35
# A home-made word -> the word of the field. Patterns are narrow: each of them has no other meaning here.
WORDS = {
    r"\bthe road\b": "the pipeline",
    r"\b(first|all)_used_up\b|\bused up\b": "exhausted",
    r"\b(is|are|was|were) told\b|\btold apart\b": "is reported, is logged",
    r"\bgo(es)? on (after|where|from)\b|\b(goes|went|going) on\b": "resumes from, continues",
    r"\bstands? (at|in|on|there|once|twice|first|before|behind|beside)\b": "is, occurs",
    r"\bof which\b": "whose, with",
    r"\bthe whole of\b": "all of",
    r"\bwritten whole\b": "atomic",
    r"\bcut back\b": "rollback",
    r"\bwhat ignorance gets\b": "chance level",
    r"\b(is|are) no numbers?\b|\bnumbers? that (is|are) none\b|\bthat is none\b": "NaN",
    r"\bmodels? that talks?\b": "generative model, chat model",
    r"\bso many\b": "N, a number",
    r"\bwhat came out\b|\bwhat comes out\b": "results, output",
    r"\bin excess\b": "unexpected",
    r"\bpoor style\b": "style faults",
    r"\bno precision\b|\b1 threads\b": "float32, 1 thread",
    r"\byounger than\b": "newer than",
    r"\b(colour|behaviour|favour|normalis|tokenis|initialis|optimis)\w*": "American spelling",
}


def prose(page: Path) -> str:
    """A page without code, tables of generated text and comments."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"```.*?```|<!--.*?-->|`[^`\n]*`", " ", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "]", text)


def found_in(text: str) -> list[tuple[str, str]]:
    """The words of a text that are ours alone, with what to write."""
    return [
        (match[0], instead)
        for pattern, instead in WORDS.items()
        for match in re.finditer(pattern, " ".join(text.split()), re.IGNORECASE)
    ]


def messages(file: Path) -> Iterator[str]:
    """What a file may show: texts of its calls (errors, prints, help) and first lines of docstrings."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                for part in ast.walk(value):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield part.value
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            yield (ast.get_docstring(node) or "").partition("\n")[0]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    """No page uses a home-made word."""
    assert found_in(prose(page)) == []


def test_messages_use_the_words_of_the_field() -> None:
    """No error, help text or docstring does."""
    files = [file for folder in ("scratch_gpt", "train", "eval") for file in (ROOT / folder).rglob("*.py")]
    found = {
        (file.relative_to(ROOT).as_posix(), *word)
        for file in files
        if "primer" not in file.parts  # texts that models learn
        for text in messages(file)
        for word in found_in(text)
    }
    assert sorted(found) == []


def test_pages_are_short() -> None:
    """A page is read in some minutes; what is generated is looked up, not read."""
    counts = {page.relative_to(ROOT).as_posix(): len(page.read_text("utf-8").split()) for page in PAGES}
    assert {page: n for page, n in counts.items() if n > MOST_WORDS and "/reference/" not in page} == {}


def test_sentences_of_the_readme_are_short() -> None:
    """Nobody has to read one twice."""
    lines = [
        line for line in prose(ROOT / "README.md").splitlines() if not line.startswith(("|", "#", "!", "<"))
    ]
    sentences = re.split(r"(?<=[.:;!?])\s|\n\s*\n|\n- ", "\n".join(lines))
    assert [text for text in sentences if len(text.split()) > MOST_WORDS_OF_A_SENTENCE] == []
