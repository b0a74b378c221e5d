"""Which Triton runs the kernels: any on a GPU, elsewhere one with an interpreter that works."""

from __future__ import annotations

import torch

# Older interpreters cannot with NumPy 2.4.
OLDEST = None if torch.cuda.is_available() else "3.7"
LACKING = f"there is no Triton {OLDEST or ''}".rstrip()
