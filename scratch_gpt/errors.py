# SPDX-License-Identifier: Apache-2.0
"""The one exception for a user's mistake."""


class UserError(ValueError):
    """A mistake of the user's: the message is one line that names the value and the cure.

    Commands print it without a traceback and exit with status 2.
    """
