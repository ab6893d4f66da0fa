# SPDX-License-Identifier: Apache-2.0
"""A user's mistake: its code and values survive pickling, and the codes of the source keep one form."""

import ast
import pickle
import re
from pathlib import Path

import error_pages
import pytest

from scratch_gpt.errors import UserError, did_you_mean, did_you_mean_path, wrong_value
from wording import user_error


ROOT = Path(__file__).parent.parent
# Raised again with more in the line: the code is the first error's.
RAISED_AGAIN = "error.code"


def raised() -> list[tuple[str, ast.Call]]:
    """Place and call of every UserError in the source."""
    return [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node)
        for folder in ("scratch_gpt", "train", "eval")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "UserError"
    ]


def codes() -> set[str]:
    """Each code of the source."""
    return {call.args[0].value for _, call in raised() if isinstance(call.args[0], ast.Constant)}


def test_an_error_crosses_processes() -> None:
    """Code, line and values come out of a pickle as they went in."""
    error = UserError("no_model", "no model in x", folder=Path("x"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is UserError
    assert (copy.code, str(copy), copy.values) == ("no_model", "no model in x", {"folder": Path("x")})


def test_what_another_library_says_becomes_one_line() -> None:
    """Line breaks and indentation go, blanks within a line stay."""
    assert str(UserError("invalid_yaml", "no  YAML:\n  line 1\n    ^ here")) == "no  YAML: line 1 ^ here"


def test_a_wrong_value_names_setting_value_and_cure() -> None:
    """The place comes first."""
    with user_error("wrong_value", setting="limit", value=0) as caught:
        raise wrong_value("limit", 0, "at least 1", where="source 'a': ")
    assert str(caught.value) == "source 'a': limit must be at least 1, got 0"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("learning_rat", "learning_rate"),
        ("learning-rate", "learning_rate"),
        ("ADAMW", "adamw"),
        ("hellaswg", "hellaswag"),
        (True, None),
        ("", None),
        ("colour", None),
    ],
)
def test_the_nearest_name_is_suggested(name, nearest) -> None:
    """Case and hyphens do not count; where nothing is near, nothing is suggested."""
    known = ["learning_rate", "warmup_steps", "adamw", "muon", "hellaswag"]
    assert did_you_mean(name, known, "; --help") == (f": did you mean {nearest}?" if nearest else "; --help")


@pytest.mark.parametrize(
    "expected",
    [
        user_error("no_results", folder="runs/a"),
        user_error("no_model", folder="runs/b"),
        user_error("no_model", "--model", folder="runs/a"),
        user_error("no_model", setting="model"),
    ],
)
def test_the_check_of_the_tests_can_fail(expected: user_error) -> None:
    """Another code, another value, a text that is not in the line, a value that the error lacks."""
    with pytest.raises(AssertionError), expected:
        raise UserError("no_model", "no model in runs/a", folder="runs/a")


def test_codes_are_short_names_in_the_source() -> None:
    """Each is written where it is raised, in snake_case, so that a search for it finds the place."""
    codes = {place: ast.unparse(call.args[0]) for place, call in raised()}
    assert len(codes) > 200
    wrong = {
        place: code
        for place, code in codes.items()
        if code != RAISED_AGAIN and not re.fullmatch(r"'[a-z0-9]+(_[a-z0-9]+){0,4}'", code)
    }
    assert wrong == {}


def test_errors_of_one_code_have_the_same_values() -> None:
    """Whoever handles a code knows which values there are."""
    names: dict[str, dict[tuple[str, ...], str]] = {}
    for place, call in raised():
        code = ast.unparse(call.args[0])
        if code != RAISED_AGAIN:
            given = tuple(sorted(str(keyword.arg) for keyword in call.keywords))
            names.setdefault(code, {})[given] = place
    assert {code: found for code, found in names.items() if len(found) > 1} == {}


def test_the_reference_lists_each_code() -> None:
    """With a line that the page took from the source: a message that it cannot read would be missing."""
    rows = error_pages.PAGE.read_text(encoding="utf-8")
    assert codes() == set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE))


def test_a_test_expects_each_code() -> None:
    """With `user_error`, which fails where the error is not raised; naming a code is not enough."""
    texts = [file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py")]
    own = Path(__file__).read_text(encoding="utf-8")  # raises errors itself
    expected = {code for text in texts if text != own for code in re.findall(r'user_error\(\s*"(\w+)"', text)}
    assert codes() - expected == set()


def test_a_shared_folder_makes_no_name_near(tmp_path: Path) -> None:
    """Of a path that is not there, its last name is compared."""
    folder = tmp_path / "projects" / "language-models"
    folder.mkdir(parents=True)
    for name in ("notes.txt", "book.txt", "README.md"):
        (folder / name).touch()
    assert did_you_mean_path(folder / "aligned", "nothing near") == "nothing near"
    assert did_you_mean_path(folder / "Bookk.txt") == f": did you mean {(folder / 'book.txt').as_posix()}?"
