"""Sample arguments for each operation: small inputs with the special values, for tests and golden vectors."""
