"""Small networks for any channel count, image size and class count; a model is one module here."""

from __future__ import annotations

from hotlap.registry import Registry

MODELS = Registry("model", __name__, context=("shape", "classes"))
"""Builders of networks. Context: ``shape`` (C, H, W) of one image, ``classes``; result: logits (N, classes)."""
