# SPDX-License-Identifier: Apache-2.0
"""What tests expect of a line that users read: the values in it, and an error's code, not how it is worded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scratch_gpt.errors import UserError


class user_error:  # reads like pytest.raises
    """The block ends in a UserError of this code, in one line that shows the texts and the values.

    Args:
        code: of the error.
        shown: texts that the line must hold besides: a name, a number, a command, a key; not a sentence.
        values: some of the error's values.
    """

    def __init__(self, code: str, *shown: Any, **values: Any) -> None:
        self.code, self.shown, self.values = code, shown, values

    def __repr__(self) -> str:
        texts = [self.code, *map(str, self.shown), *(f"{name}={each}" for name, each in self.values.items())]
        return f"user_error({', '.join(texts)})"

    def __enter__(self) -> pytest.ExceptionInfo[UserError]:
        self._raises = pytest.raises(UserError)
        self._caught = self._raises.__enter__()
        return self._caught

    def __exit__(self, *exception: Any) -> bool:
        if not self._raises.__exit__(*exception):
            return False
        error = self._caught.value
        found = {name: error.values.get(name) for name in self.values}
        assert error.code == self.code, f"{error.code} instead of {self.code}: {error}"
        assert _plain(found) == _plain(self.values), f"{found} instead of {self.values}: {error}"
        assert shows(str(error), *self.shown, *self.values.values())
        assert "\n" not in str(error)
        return True


def shows(text: str, *values: Any) -> bool:
    """Whether the text, however its lines are broken, holds each value; of a list, each of its items."""
    text = " ".join(text.split())
    for value in values:
        if isinstance(value, list | tuple):
            assert shows(text, *value)
        else:
            forms = {str(value), f"{value:,}" if isinstance(value, int | float) else repr(value)}
            assert any(form in text for form in forms), f"{value} is not in: {text}"
    return True


def _plain(value: Any) -> Any:
    """For a comparison: paths are their text, and so is NaN, which equals nothing."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) or value != value else value
