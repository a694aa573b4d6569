"""Witnesses: others who cosign a run's tree heads once they saw that the log only grew. C2SP tlog-witness."""
