"""Layers of a network as a few passes over a GPU's memory, in Triton."""
