# SPDX-License-Identifier: Apache-2.0
"""The web page as a folder that is a Hub Space: the page's own code, the models, what to install."""

import re
import shutil
from importlib.metadata import requires, version
from pathlib import Path

from scratch_gpt.errors import UserError
from scratch_gpt.inference.loading import check_folder
from scratch_gpt.publishing.checks import pack
from scratch_gpt.runs.folders import atomic_directory


PACKAGE = Path(__file__).parent.parent
# Of a model's folder: the weights and how to read them, what the page says of the model, no states of the training.
MODEL_FILES = re.compile(
    r"(generation_)?config\.json|model.*\.safetensors(\.index\.json)?|tokenizer.*|chat_template\.jinja"
    r"|README\.md|samples\.json|results/[^/]+(?<!\.items)\.json"
)

APP = '''"""The page of scratch-gpt for the models in this folder."""

from scratch_gpt.serving.web import serve_page


serve_page({folders}, host="0.0.0.0", port=7860)
'''
README = """---
title: {title!r}
sdk: gradio
sdk_version: {gradio}
app_file: app.py
---

Talk to {title}, see its tokens, how probable each next one is and which attends to which.
"""


def write_space(folders: list[str], output_dir: str) -> None:
    """Write a Space for the models in `folders`; `python app.py` in it shows the page here as well.

    Raises:
        UserError: no model in a folder, two of one name, what `pack` refuses, or `output_dir` holds something.
    """
    for folder in folders:
        check_folder(folder)
    names = [Path(folder).resolve().name for folder in folders]
    if len(set(names)) < len(names):
        message = f"both folders are called {names[0]}: rename one, the page shows them by name"
        raise UserError("duplicate_name", message, name=names[0])
    with atomic_directory(output_dir, ()) as space:
        for folder, name in zip(folders, names, strict=True):
            # without this machine's paths, as when the folder itself is published
            cleaned = {file.path: file.content for file in pack(folder).files}
            for file in (*Path(folder).glob("*"), *Path(folder).glob("results/*")):
                place = file.relative_to(folder).as_posix()
                if MODEL_FILES.fullmatch(place):
                    copy = space / "models" / name / place
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    if content := cleaned.get(place):
                        copy.write_bytes(content)
                    else:
                        shutil.copy(file, copy)
        shutil.copytree(
            PACKAGE, space / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__", "_scripts")
        )
        needed = [line for line in requires("scratch-gpt") or [] if "extra ==" not in line]
        (space / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
        app = APP.format(folders=[f"models/{name}" for name in names])
        (space / "app.py").write_text(app, encoding="utf-8")
        readme = README.format(title=" and ".join(names), gradio=version("gradio"))
        (space / "README.md").write_text(readme, encoding="utf-8")
