"""One module per workload, a program of its own: ``python -m benches.workloads.NAME``."""
