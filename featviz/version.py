"""Which featviz this is. Every result says so."""

__version__ = "0.1.0"
