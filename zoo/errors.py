"""The one exception for mistakes that a user can put right."""


class InputError(ValueError):
    """Something the user gave is wrong: the message is one line that says what to do about it.

    The command line prints the message alone and exits with code 2; any other exception is a defect of ours.
    """
