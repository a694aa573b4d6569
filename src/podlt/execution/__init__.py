"""Executing tasks: the same code for workers of every engine, for the referee and for auditors."""
