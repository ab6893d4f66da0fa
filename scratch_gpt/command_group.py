# SPDX-License-Identifier: Apache-2.0
"""All commands on one screen of 24 lines of 80 characters, and one line for what was typed wrong."""

import itertools
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperGroup

from scratch_gpt.errors import UserError, did_you_mean, wrong_value


# Most characters of a command's `short_help`; its own --help says the rest.
SHORT_WIDTH = 24
# Typer's own since 0.2x, click's before.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
# In a context of typer's: what was typed behind the command's name.
WORDS = "scratch_gpt.words"


class CommandGroup(TyperGroup):
    """The commands of `scratch-gpt`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Two commands a line, under the names of their panels."""
        formatter.write(f"Usage: {ctx.command_path} COMMAND ...   (COMMAND --help explains one; --version)\n")
        formatter.write(textwrap.fill(str(self.help), 79) + "\n")
        panels = {name: getattr(command, "rich_help_panel", "") for name, command in self.commands.items()}
        for panel, members in itertools.groupby(self.commands, panels.__getitem__):
            formatter.write(f"{panel}\n")
            names = list(members)
            for first in range(0, len(names), 2):
                cells = (
                    f" {name:<14}{self.commands[name].get_short_help_str(SHORT_WIDTH):<{SHORT_WIDTH}}"
                    for name in names[first : first + 2]
                )
                formatter.write("".join(cells).rstrip() + "\n")

    def make_context(self, info_name: Any, args: list[str], *others: Any, **more: Any) -> Any:
        """Typer's, with the line of a user's mistake; errors as for `invoke`."""
        with _user_errors(list(args)):
            return super().make_context(info_name, args, *others, **more)

    def invoke(self, ctx: Any) -> Any:
        """Typer's, with the line of a user's mistake.

        Raises:
            UserError: there is no such option, one is missing, or has a value of another kind.
        """
        with _user_errors(ctx.meta.setdefault(WORDS, [])):
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Typer's, with the line of a user's mistake.

        Raises:
            UserError: there is no such command.
        """
        if args[0] not in self.commands and not args[0].startswith("-"):
            message = (
                f"there is no command {args[0]}{did_you_mean(args[0], self.commands, '; --help lists them')}"
            )
            raise UserError("unknown_command", message, command=args[0])
        ctx.meta[WORDS] += args[1:]
        return super().resolve_command(ctx, args)


@contextmanager
def _user_errors(words: list[str]) -> Iterator[None]:
    """Turn typer's mistakes of usage, which it shows in a box of several lines, into a UserError.

    Args:
        words: what was typed, where a wrong value is looked up: the mistake does not hold it.
    """
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(str(error))
            raise typer.Exit(2) from None
        raise _as_user_error(error, words) from None


def _as_user_error(error: Any, words: list[str]) -> UserError:
    parameter = getattr(error, "param", None)
    if parameter is None:
        line = f"{error.message[:1].lower()}{error.message[1:].rstrip('.')}"
        if type(error).__name__ == "NoSuchOption":
            options = [
                option for each in error.ctx.command.params for option in each.opts if option[0] == "-"
            ]
            hint = did_you_mean(error.option_name, options, "; --help lists them")
            line = f"{error.ctx.info_name} has no option {error.option_name}{hint}"
        return UserError("invalid_arguments", line)
    name = max(parameter.opts, key=len)
    if type(error).__name__ == "MissingParameter":
        what = name if name[0] == "-" else parameter.metavar or name.upper()
        message = f"{error.ctx.info_name} needs {what}; --help explains it"
        return UserError("setting_missing", message, setting=what)
    return wrong_value(
        name, _value(parameter.opts, words), _wanted(error.ctx.command.callback, parameter.name)
    )


def _wanted(command: Any, name: str) -> str:
    """What a value must be, by the annotation in the command's signature."""
    annotation, option = get_args(get_type_hints(command, include_extras=True)[name])
    wanted = "a whole number" if int in (annotation, *get_args(annotation)) else "a number"
    return wanted if option.min is None else f"{wanted} of at least {option.min}"


def _value(options: list[str], words: list[str]) -> str | None:
    """The value of an option among words, as in `--port x`, `--port=x`."""
    for word, following in itertools.zip_longest(words, words[1:]):
        if word in options:
            return following
        option, equals, value = word.partition("=")
        if equals and option in options:
            return value
    return None
