"""How fast, how large, how soon: one file a question, `python -m benchmarks` answers all of them in RESULTS.md."""
