"""Optimise: the parts of optimisation loops, as functions of tensors."""
