"""Exact arithmetic: the same bits on every machine."""
