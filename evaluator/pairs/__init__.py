"""Judging pictures against one another: which of two is better, and the order of a group."""
