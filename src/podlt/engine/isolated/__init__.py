"""Execution in a process of its own, which may fail, hang and be killed: a worker whose manager may be hostile."""
