"""The rules of the intent guard, one small function for each thing that a rewrite must not break."""
