"""The rules: what a run is, and what may happen next. No clock, dice, sockets or tensors."""
