"""The messages of a run over NATS: its server, who may log in, and the links of both sides."""
