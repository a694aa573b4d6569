"""The engine `local`: workers on this machine, in as many processes as there are cores."""
