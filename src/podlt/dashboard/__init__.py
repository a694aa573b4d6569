"""The dashboard: a page that shows a run while it goes on and afterwards, as a server or as one file. No PyTorch."""
