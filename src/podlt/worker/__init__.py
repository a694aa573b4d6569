"""A worker process: several identities, one program, one copy of the parameters."""
