# SPDX-License-Identifier: Apache-2.0
"""The reference is that of the code: keys, errors, the Python API, and the site that holds them."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import error_pages
import key_pages
import mkdocs_hooks
import pytest

import scratch_gpt


ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("module", [key_pages, error_pages])
def test_reference_is_that_of_the_code(module: ModuleType) -> None:
    """`make refresh` would write the same pages of keys and errors."""
    pages = module.pages()
    assert [page.name for page, text in pages.items() if text != page.read_text(encoding="utf-8")] == []
    rows = [line for text in pages.values() for line in text.splitlines() if "|" in line]
    assert [row for row in rows if not (row.startswith("|") and row.endswith("|"))] == []


def test_reference_names_what_is_public() -> None:
    """The page has a row for every public name, and each module in it is there, with what it is named for."""
    rows = re.findall(
        r"^\| `(\S+)` \|(.*)",
        (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    modules = {name: text for name, text in rows if name.startswith("scratch_gpt")}
    assert sorted({name for name, _ in rows} - set(modules)) == scratch_gpt.__all__
    for name, text in modules.items():
        module = importlib.import_module(name)
        words = re.findall(r"`(\w+)`", text)
        assert [
            word for word in words if getattr(getattr(module, word, None), "__module__", name) != name
        ] == []
        assert [word for word in words if not hasattr(module, word)] == []


def make_docs(folder: Path, modules: str = "") -> str:
    """Run `make docs` in this environment, into `folder` and the site below it; what it says."""
    for package in ("mkdocs", "pdoc"):
        pytest.importorskip(package, reason="needs the packages of scratch-gpt[docs]")
    if shutil.which("make") is None:
        pytest.skip("needs make")
    command = ["make", "--old-file", ".venv/.installed", "docs"]
    settings = [f"BIN={Path(sys.executable).parent}", f"REFERENCE={folder}", f"SITE={folder / 'site'}"]
    settings += [f"MODULES={modules}"] if modules else []
    ran = subprocess.run([*command, *settings], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stderr


def test_reference_is_made_from_docstrings(tmp_path: Path) -> None:
    """`make docs` warns of nothing, and describes every public name."""
    assert make_docs(tmp_path, "scratch_gpt scratch_gpt.errors") == ""
    page = (tmp_path / "scratch_gpt.html").read_text(encoding="utf-8")
    assert [name for name in scratch_gpt.__all__ if f'id="{name}"' not in page] == []
    assert "A mistake of the user" in (tmp_path / "scratch_gpt" / "errors.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_site_has_every_page(tmp_path: Path) -> None:
    """`make docs` finds every link and anchor (it is strict), and each page is on the site, below a tab."""
    make_docs(tmp_path, "scratch_gpt.errors")
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).with_suffix(".html").as_posix() for page in docs.rglob("*.md")}
    pages = {re.sub(r"README\.html$", "index.html", page) for page in pages}
    assert [page for page in pages if not (tmp_path / "site" / page).is_file()] == []
    start = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{page}"' in start for page in pages if page != "index.html")
    assert not re.search(r'(?:src|<link[^>]*href)="(?:https?:)?//', start)  # nothing is loaded from elsewhere
    reference = (tmp_path / "site" / "reference" / "python-api.html").read_text(encoding="utf-8")
    assert 'href="../api/index.html"' in reference


@pytest.mark.parametrize(
    ("target", "repository", "expected"),
    [
        (
            "../../train/sft.py#L3",
            "owner/name",
            "[x](https://github.com/owner/name/blob/main/train/sft.py#L3)",
        ),
        ("../../train/sft.py", None, "x"),
        ("../../train/none.py", "owner/name", "x"),
        ("../README.md", "owner/name", "[x](../README.md)"),
        ("https://pdoc.dev", "owner/name", "[x](https://pdoc.dev)"),
    ],
)
def test_links_out_of_docs_lead_to_github(
    target: str,
    repository: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where the workflow names the repository; else the text stays. A file that is not there is a warning."""
    monkeypatch.delenv("GITHUB_SERVER_URL", raising=False)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    if repository:
        monkeypatch.setenv("GITHUB_REPOSITORY", repository)
    page = SimpleNamespace(file=SimpleNamespace(src_path="how-to/tuning.md"))
    assert mkdocs_hooks.on_page_markdown(f"[x]({target})", page) == expected
    assert bool(caplog.records) == ("none" in target)


@pytest.mark.slow
def test_reference_has_a_page_for_each_module(tmp_path: Path) -> None:
    """All of them, without a warning."""
    assert make_docs(tmp_path) == ""
    files = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "scratch_gpt").rglob("*.py")}
    modules = {path.parent if path.name == "__init__" else path for path in files}
    pages = {path.relative_to(tmp_path).with_suffix("") for path in tmp_path.rglob("*.html")}
    pages = {page for page in pages if page.parts[0] != "site"}  # the site of docs/, beside the modules
    assert pages == modules | {Path("index")}
