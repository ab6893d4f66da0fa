# SPDX-License-Identifier: Apache-2.0
"""The one exception for a user's mistake, and the name that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any


class UserError(ValueError):
    """A mistake of the user's: one line for people, a code and values for programs.

    Commands print the line without a traceback and exit with status 2.

    Args:
        code: what is wrong, in snake_case; stays the same when the line is worded anew.
        message: a line that names the value and the cure; what another library says may have more, they become one.
        values: what the line is about, by name; errors of one code have the same names.
    """

    def __init__(self, code: str, message: str, /, **values: Any) -> None:
        super().__init__(" ".join(line.strip() for line in message.splitlines()))
        self.code = code
        self.values = values

    def __reduce__(self) -> tuple[Any, ...]:
        # by default exceptions are pickled as type(self)(*self.args), which lacks the code
        return partial(type(self), self.code, str(self), **self.values), ()


def did_you_mean(name: Any, known: Iterable[str], otherwise: str = "") -> str:
    """What follows a name that is not known: ": did you mean NAME?" with the nearest of `known`.

    Case, hyphens and underscores do not count.

    Args:
        otherwise: the text where no name is near.
    """
    nearest = _nearest(str(name), known)
    return f": did you mean {nearest}?" if nearest else otherwise


def _nearest(name: str, known: Iterable[str]) -> str | None:
    plain = {each.lower().replace("-", "_"): each for each in known}
    found = get_close_matches(name.lower().replace("-", "_"), plain, n=1)
    return plain[found[0]] if found else None


def did_you_mean_path(path: str | Path, otherwise: str = "") -> str:
    """The same for a path where nothing is, with what lies in its folder: that one folder is shared makes no name near."""
    path = Path(path)
    nearest = _nearest(path.name, (each.name for each in path.parent.glob("*")))
    return f": did you mean {(path.parent / nearest).as_posix()}?" if nearest else otherwise


def wrong_value(
    setting: str, value: Any, wanted: str, *, where: str = "", choices: Iterable[str] = ()
) -> UserError:
    """The error for a setting that cannot have this value: "limit must be at least 1, got 0".

    Args:
        choices: the names that it can have, to suggest the nearest.
    """
    line = f"{where}{setting} must be {wanted}, got {value!r}{did_you_mean(value, choices)}"
    return UserError("wrong_value", line, setting=setting, value=value)
