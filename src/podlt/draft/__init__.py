"""A recipe drafted for data that were looked at: which columns are inputs, and which model takes them."""
