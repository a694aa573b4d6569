"""How bytes travel between a manager and worker processes: one server, one client, one link, and large byte strings."""
