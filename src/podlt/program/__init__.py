"""What is computed: the training step as a closed, canonical program."""
