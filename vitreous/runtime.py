"""The process-wide facts: which device, which precision, which random numbers."""
