"""What `benchmarks/conformance.py` holds tools to: known models, definitions, checks, subjects, the table."""
