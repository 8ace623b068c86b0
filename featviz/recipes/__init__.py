"""Recipes: one algorithm a module, its fields and its loop."""
