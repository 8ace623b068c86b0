"""Optimise: the parts that the loops are made of, as functions of tensors."""
