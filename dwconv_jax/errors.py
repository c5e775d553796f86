"""The one exception for mistakes that a user can correct."""


class UserError(ValueError):
    """A config, argument or file that cannot be used.

    The message is one sentence that names the argument, field or file, what was found and what is
    legal. Command lines print only the message and exit with code 1; every other exception is a
    bug and keeps its traceback.
    """


class MissingPackageError(UserError, ImportError):
    """An optional package that is not installed; the message says how to install it."""
