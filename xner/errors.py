"""A user's mistakes: each is one clear line, never a traceback."""


class UserError(ValueError):
    """What was asked for cannot be done as asked; its text names the option, the value and what would do."""

    exit_code = 2


class RunError(UserError):
    """What was asked for was well formed, but the data, the network or the disk stands in its way."""

    exit_code = 1
