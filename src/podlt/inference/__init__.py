"""From a trained model to predictions, without its training data: what inference needs, stored, read and used."""
