"""Which recipes are trained with which seeds, in what order, and where the runs go."""
