"""Attestations: what a run's log says of its model, in the forms that other tools verify (in-toto, SLSA, OpenSSF)."""
