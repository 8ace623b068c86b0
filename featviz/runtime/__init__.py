"""Runtime: a recipe on a machine."""
