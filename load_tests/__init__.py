"""Benchmarks and load scenarios. They measure; nothing here is part of the test suite."""
