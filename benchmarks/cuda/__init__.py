"""All that a CUDA card can tell about featviz, by one command: `python -m benchmarks.cuda`."""
