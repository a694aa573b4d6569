"""Sources of lines, prepared once and dealt as blocks and fragments."""
