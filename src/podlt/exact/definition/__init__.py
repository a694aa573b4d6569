"""The definition of exact arithmetic, in Python integers and NumPy: slow, the specification, no training."""
