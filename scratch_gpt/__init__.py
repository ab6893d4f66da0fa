# SPDX-License-Identifier: Apache-2.0
"""scratch-gpt: raw text in, an aligned chat model out, and every folder on the way is a Hugging Face model.

Importing the package registers its classes with the Auto classes of transformers. The `scratch-gpt` command alone waits
until a command needs them: help and a mistyped name answer without torch.
"""

import scratch_gpt.native_libraries  # noqa: F401  # before torch

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any


__version__ = "0.2.0"


def _is_command() -> bool:
    """Whether this process runs `scratch-gpt`, `python -m scratch_gpt` or `python -m scratch_gpt.cli`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # what `python -m` has there until the module is found
        return sys.orig_argv[sys.orig_argv.index("-m") + 1] in ("scratch_gpt", "scratch_gpt.cli")
    return Path(program).stem == "scratch-gpt"


if TYPE_CHECKING or not _is_command():
    from scratch_gpt.registration import *  # noqa: F403
    from scratch_gpt.registration import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        if not name.startswith(
            "ScratchGPT"
        ):  # a module of the package, which the import system then looks for
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from scratch_gpt import registration

        return getattr(registration, name)
