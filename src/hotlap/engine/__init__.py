"""The training engine: one loop, one clock."""
