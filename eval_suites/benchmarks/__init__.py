"""Benchmarks of pictures made from prompts, one file each."""
