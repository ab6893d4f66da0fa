# SPDX-License-Identifier: Apache-2.0
"""What docs/reference/files.md names, for the tests that run a stage anyway."""

import re
from fnmatch import fnmatch
from pathlib import Path


PAGE = Path(__file__).parent.parent / "docs" / "reference" / "files.md"


def not_on_the_page(folder: Path) -> list[str]:
    """The files of a folder that the tables of the page do not name."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    names = re.findall(r"`([^`\s]+)`", "\n".join(rows))
    patterns = [re.sub("NAME|TASK", "*", name.rpartition("/")[2]) for name in names]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        path.relative_to(folder).as_posix()
        for path in files
        if not any(pattern and fnmatch(path.name, pattern) for pattern in patterns)
    ]
