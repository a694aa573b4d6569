"""Receipts: what a manager signed for work done, as a worker keeps it and holds it against the log. No PyTorch."""
