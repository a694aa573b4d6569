"""The append-only log: a Merkle tree of RFC 6962, with tree heads signed as C2SP checkpoints."""
