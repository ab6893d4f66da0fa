# SPDX-License-Identifier: Apache-2.0
"""The scores as a folder for the Hub: a module of `evaluate` that needs nothing of this package.

Pushed as a Space, it is what `evaluate.load("USER/scratch_gpt_scores", NAME)` loads.
"""

import re
from importlib import metadata
from pathlib import Path

import scratch_gpt
from scratch_gpt.errors import wrong_value
from scratch_gpt.runs.folders import atomic_directory


# Module of this package -> its file beside the main one.
PARTS = {
    "scratch_gpt.evaluation.metrics.bleu_tokenizers": "bleu_tokenizers",
    "scratch_gpt.tasks.scores": "task_scores",
    "scratch_gpt.tasks.words": "words",
    "scratch_gpt.errors": "errors",
}
MAIN = "scratch_gpt.evaluation.metrics.scores"
REQUIRED = ("numpy", "sacrebleu")


def source_of(module: str) -> str:
    """The text of a module, whose imports from this package are from files beside it."""
    root = Path(str(scratch_gpt.__file__)).parents[1]
    text = (root / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    text = text.replace("from scratch_gpt.tasks import scores", "from . import task_scores as scores")
    return re.sub(
        r"^from (scratch_gpt\.[\w.]+) import",
        lambda found: f"from .{PARTS[found[1]]} import",
        text,
        flags=re.M,
    )


def write_metric_module(folder: str | Path) -> Path:
    """Write the module, named as the folder, the files it imports and their requirements; return its file.

    Raises:
        UserError: the folder's name is no name of a module, or it holds something else.
    """
    folder = Path(folder)
    if not folder.name.isidentifier():
        wanted = "a name of letters, digits and underscores, such as scratch_gpt_scores"
        raise wrong_value("folder", folder.name, wanted)
    # `evaluate` 0.4.6 copies only the files that the main one imports itself, by lines of this form
    copied = "".join(f"from .{name} import __name__ as _{name}\n" for name in PARTS.values())
    contents = (f"{folder.name}.py", *(f"{name}.py" for name in PARTS.values()), "requirements.txt")
    with atomic_directory(folder, contents) as temporary:
        (temporary / f"{folder.name}.py").write_text(
            source_of(MAIN).replace("import evaluate\n", f"import evaluate\n\n{copied}", 1), encoding="utf-8"
        )
        for module, name in PARTS.items():
            (temporary / f"{name}.py").write_text(source_of(module), encoding="utf-8")
        required = "".join(f"{name}>={metadata.version(name)}\n" for name in REQUIRED)
        (temporary / "requirements.txt").write_text(required, encoding="utf-8")
    return folder / f"{folder.name}.py"
