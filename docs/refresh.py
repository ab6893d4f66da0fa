# SPDX-License-Identifier: Apache-2.0
"""Cut anew what the pages take from the source: excerpts of code, the tree of files, keys, errors. `make refresh` runs it.

An excerpt is a block of Python that begins with where it is from. `# FILE: NAME, NAME` holds these functions or classes
whole; `# FILE: in NAME` holds some lines of one, from the block's first line to its last: to show other lines, write
other first and last lines into the block. Where a function has moved to another file, its new place is found.
"""

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import error_pages
import key_pages


ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FOLDERS = ("scratch_gpt", "train", "eval")
# Of folders that are no packages, which have no docstring.
SCRIPTS = {
    "train": "One launchable file a stage.",
    "eval": "One launchable file a benchmark.",
    "engineering": "Benchmarks of the code itself, in the repository alone.",
}
EXCERPT = re.compile(
    r"^```python\n# ((?:scratch_gpt|train|eval)/\S+\.py): (in )?([\w., ]+)\n(.*?)^```$", re.M | re.S
)
TREE = re.compile(r"(<!-- tree: (folders|files) -->\n```text\n).*?(```)$", re.M | re.S)


def definitions(file: Path) -> dict[str, tuple[int, int]]:
    """First and last line, from 0 on and one behind, of each function and class of a file; methods are Class.name."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, tuple[int, int]]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                yield prefix + child.name, (first - 1, child.end_lineno or first)
                yield from below(child, f"{prefix}{child.name}.")

    return dict(below(ast.parse(file.read_text(encoding="utf-8")), ""))


def home_of(name: str, file: str) -> str:
    """The file that defines `name`: the given one, or the only other one.

    Raises:
        LookupError: it is nowhere, or in several others.
    """
    if (ROOT / file).is_file() and name in definitions(ROOT / file):
        return file
    others = [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if name in definitions(path)
    ]
    if len(others) != 1:
        raise LookupError(f"{name} is no longer in {file}, but in {', '.join(others) or 'no other file'}")
    return others[0]


def cut(match: re.Match[str]) -> str:
    """The block of an excerpt as the source has it now.

    Raises:
        LookupError: a name, or the first or last line of some lines, is gone.
    """
    file, part, names, old = match.groups()
    parts = []
    for name in names.split(", "):
        file = home_of(name, file)
        first, end = definitions(ROOT / file)[name]
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()[first:end]
        if part:
            shown = old.strip("\n").splitlines()
            try:
                start = [line.strip() for line in lines].index(shown[0].strip())
                indent = len(lines[start]) - len(lines[start].lstrip())
                lines = lines[start:]
                lines = lines[: [line[indent:] for line in lines].index(shown[-1]) + 1]
            except ValueError:
                raise LookupError(
                    f"{name} of {file} no longer has the first or last line of its excerpt, {shown[0]!r} "
                    f"and {shown[-1]!r}: write the new ones into the block"
                ) from None
        parts.append(textwrap.dedent("\n".join(lines)))
    quoted = "\n\n\n".join(parts)
    # further left, a formatter breaks lines elsewhere
    if re.sub(r"[\s,]", "", quoted) == re.sub(r"[\s,]", "", old):
        quoted = old.rstrip("\n")
    return f"```python\n# {file}: {part or ''}{names}\n{quoted}\n```"


def tree(files: bool) -> str:
    """Folders, or all modules in them too, each with the first line of its docstring."""

    def line(path: Path, summary: str) -> str:
        depth = len(path.relative_to(ROOT).parts) - 1
        name = "  " * depth + path.name + "/" * path.is_dir()
        return f"{name:<42}{summary}".rstrip() + "\n"

    def summary_of(file: Path) -> str:
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        return " ".join(docstring.partition("\n\n")[0].split())

    def below(folder: Path) -> Iterator[str]:
        init = folder / "__init__.py"
        yield line(folder, summary_of(init) if init.is_file() else SCRIPTS.get(folder.name, ""))
        if files:
            yield from (line(file, summary_of(file)) for file in sorted(folder.glob("*.py")) if file != init)
        for inner in sorted(path for path in folder.iterdir() if any(path.rglob("*.py"))):
            yield from below(inner)

    return "".join(text for name in FOLDERS for text in below(ROOT / name))


def refreshed(page: Path) -> str:
    """The text of a page with its excerpts and its tree as the source has them now."""
    text = EXCERPT.sub(cut, page.read_text(encoding="utf-8"))
    return TREE.sub(lambda match: match[1] + tree(match[2] == "files") + match[3], text)


def main() -> None:
    """Write the pages that changed, and name them; exit with 1 where an excerpt is not found."""
    pages = {**key_pages.pages(), **error_pages.pages()}
    for page in PAGES:
        try:
            pages.setdefault(page, refreshed(page))
        except LookupError as error:
            sys.exit(f"{page.relative_to(ROOT)}: {error.args[0]}")
    for page, text in pages.items():
        if not page.is_file() or text != page.read_text(encoding="utf-8"):
            page.parent.mkdir(exist_ok=True)
            page.write_text(text, encoding="utf-8")
            print(f"refreshed {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
