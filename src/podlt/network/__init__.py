"""Workers on other machines: who may join, what is said, and how large things travel."""
