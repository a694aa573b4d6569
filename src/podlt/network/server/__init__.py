"""The manager's one server: HTTPS, and WebSockets for the sessions of worker processes."""
