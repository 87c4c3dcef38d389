"""The one exception that speaks to the user instead of the developer."""


class UserError(Exception):
    """A user's mistake, told in one line that names the key or file and the mend.

    The command line prints the message without a traceback and exits with code 2.
    """
