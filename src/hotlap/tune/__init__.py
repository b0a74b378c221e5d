"""Searching hyper-parameters on images held out of the training set, built on Optuna."""

from __future__ import annotations

from hotlap.errors import InputError


def check_installed() -> None:
    """Make sure that Optuna is there, before anything is loaded or trained.

    Raises:
        InputError: it is not.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise InputError("tuning needs Optuna", "pip install 'hotlap[tune]'") from None
