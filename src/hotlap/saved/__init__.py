"""Trained networks in files: saving a run's network, loading it, and asking it what images show."""

from __future__ import annotations

from hotlap.saved.files import load, save, write
from hotlap.saved.model import SavedModel

__all__ = ["SavedModel", "load", "save", "write"]
