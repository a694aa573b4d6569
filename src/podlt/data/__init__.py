"""Sources of examples, prepared once and dealt as batches and shards."""
