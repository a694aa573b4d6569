"""Whether a machine can do what is asked of it: what was found of each need, and how to mend it."""
