"""The one class of every error that a user can cause."""


class UserError(Exception):
    """One line that says what is wrong, where, and what would be right. The command line prints it and exits with 2."""
