"""What people look at: folds over a run's log, and the page made of them. No PyTorch."""
