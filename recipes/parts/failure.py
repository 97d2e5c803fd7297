"""The base of what a run can meet although nothing that the user gave is wrong."""


class Failed(RuntimeError):
    """The job cannot be done; the message is one line that says where it stopped and why.

    The command line prints the message alone and exits with code 1.
    """
