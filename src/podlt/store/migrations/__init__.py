"""Steps from one version of the tables to the next, run by alembic: see `podlt.store.schema`."""
