"""What a run needs that goes on for weeks: metrics, health, and a log that programs read."""
