"""What a manager and a worker process say to each other, and how it is encoded: docs/WIRE.md."""
