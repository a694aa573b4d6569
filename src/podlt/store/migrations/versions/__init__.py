"""Each step, by its number: none is changed once a release had it."""
