"""The rules by family: what each kind of entry requires of the run before it, and what it changes."""
