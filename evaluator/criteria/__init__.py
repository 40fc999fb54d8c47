"""Criteria: what scores pictures of a case. A file a kind; docs/rewards.md lists them."""
