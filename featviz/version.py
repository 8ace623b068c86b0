"""The version of featviz, which every result records."""

__version__ = "1.0.0"
