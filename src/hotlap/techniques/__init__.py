"""Training augmentations: one module each, a pure function with its card. Techniques never import the engine."""

from __future__ import annotations

from hotlap.registry import Registry

AUGMENTATIONS = Registry("augmentation", __name__)
"""Builders of augmentations; result: a function (images (N, C, H, W), generator) → images, the input not modified."""
