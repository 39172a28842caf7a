"""The one error class for what a user can put right."""


class UserError(Exception):
    """A mistake in the user's input: its message is shown alone, and the exit status is 2.

    The message is one line: it names the file or the setting, what was found, what is allowed and what to do.
    """
