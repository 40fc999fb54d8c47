"""Benchmarks of edited pictures, one file each."""
