"""The engine `ray`: workers on the machines of one Ray cluster."""
