"""The manager's side of a networked run: workers joining, rounds dealt, receipts sent."""
