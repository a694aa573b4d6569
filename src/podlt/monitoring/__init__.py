"""What a run of weeks needs: metrics, health, and a log that programs read."""
