"""PyTorch's objects as a recipe: a module, data, a loss and an optimiser, each in the recipe's own words."""
