"""The one exception for mistakes that a user can correct."""


class UserError(ValueError):
    """A config, argument or file that cannot be used.

    The message is one sentence that names the argument, field or file, what was found and what is
    legal. Command lines print it alone and exit with 1; every other exception is a bug, and keeps
    its traceback.
    """
