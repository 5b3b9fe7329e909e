"""Solvers follow a diffusion back from noise to a sample, one class a file; ``conf/solver`` has their options."""
