"""The manager at work: runs a recipe over an engine, keeps the run's directory, resumes it, audits it."""
