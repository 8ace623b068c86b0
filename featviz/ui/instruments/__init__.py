"""What stands in place of the result: each instrument is one component, drawn by a script of its own."""
