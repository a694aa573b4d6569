"""Workers on other machines: the manager's session with them, and the engine that drives it by a link and a clock."""
