"""How a run shows itself while it goes on: a bar on a terminal, plain lines, or a panel of a notebook."""
