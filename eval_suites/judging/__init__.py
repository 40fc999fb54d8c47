"""Benchmarks of judges, one file each, and what is measured of a judge."""
