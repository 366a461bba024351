"""The error that a user of this package can meet."""


class ApusError(Exception):
    """Why a cluster cannot do what was asked: one sentence that says what happened and what to try."""
