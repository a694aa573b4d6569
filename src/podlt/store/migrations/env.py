"""What alembic runs for each upgrade: the steps, on the connection that `podlt.store.schema` gave it."""

from __future__ import annotations

from alembic import context

from podlt.store.schema import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
