"""Large byte strings, named by their digests: stored, served, fetched, uploaded."""
