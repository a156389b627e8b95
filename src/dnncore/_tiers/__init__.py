"""Compiled loops, one module per element type and instruction set; see ``tier.pxi``."""
