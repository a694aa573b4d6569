"""Where a run's entries and blobs are kept."""
