"""Compiled kernels that train small networks on a CPU, and what they can be asked for."""
