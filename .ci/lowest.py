# SPDX-License-Identifier: Apache-2.0
"""Print a pip constraints file with the lower bounds of pyproject.toml as exact versions: `>=` becomes `==`."""

import re
import tomllib
from pathlib import Path


project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text("utf-8"))["project"]
requirements = [
    line for part in (project["dependencies"], *project["optional-dependencies"].values()) for line in part
]
for bound in sorted({match[0] for line in requirements if (match := re.match(r"[\w.-]+>=[\w.]+", line))}):
    print(bound.replace(">=", "=="))
