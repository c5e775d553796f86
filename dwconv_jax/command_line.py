"""What the command lines that take a config file share."""

import sys

from absl import flags


def parse_flags(argv: list[str]) -> list[str]:
    """Ends in one sentence where absl would print a traceback: a misspelt field, a wrong type."""
    try:
        return flags.FLAGS(argv)
    except AttributeError as error:
        sys.exit(f"error: the config has no such field: {error}")
    except (flags.Error, TypeError, ValueError) as error:
        # A config file's own error comes with its traceback; the sentence is the last line.
        sys.exit(f"error: {str(error).strip().splitlines()[-1].strip()}")
