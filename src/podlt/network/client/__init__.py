"""A worker process's end of a manager's own server."""
