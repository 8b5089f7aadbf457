"""A user's mistakes: each is one clear line, never a traceback."""


class UserError(ValueError):
    """What was asked for cannot be done as asked; its text names the option, the value and what would do."""

    exit_code = 2


class Stopped(UserError):
    """The user, or the system, stopped the command; its text says how to go on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RunError(UserError):
    """What was asked for was well formed, but the data, the network or the disk stands in its way."""

    exit_code = 1
