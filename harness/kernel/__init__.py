"""Kernels as packages: where they come from, what they are, how to boot them."""
