# SPDX-License-Identifier: Apache-2.0
"""All commands on one screen of 24 lines of 80 characters, and the nearest name of one that there is not."""

import textwrap
from itertools import groupby
from typing import Any

from typer.core import TyperGroup

from scratch_gpt.errors import UserError, did_you_mean


# Most characters of a command's `short_help`; its own --help says the rest.
SHORT_WIDTH = 24


class CommandGroup(TyperGroup):
    """The commands of `scratch-gpt`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Two commands a line, under the names of their panels."""
        formatter.write(f"Usage: {ctx.command_path} COMMAND ...   (COMMAND --help explains one; --version)\n")
        formatter.write(textwrap.fill(str(self.help), 79) + "\n")
        panels = {name: getattr(command, "rich_help_panel", "") for name, command in self.commands.items()}
        for panel, members in groupby(self.commands, panels.__getitem__):
            formatter.write(f"{panel}\n")
            names = list(members)
            for first in range(0, len(names), 2):
                cells = (
                    f" {name:<14}{self.commands[name].get_short_help_str(SHORT_WIDTH):<{SHORT_WIDTH}}"
                    for name in names[first : first + 2]
                )
                formatter.write("".join(cells).rstrip() + "\n")

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
        return super().resolve_command(ctx, args)
