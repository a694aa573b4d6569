"""Who may work for a run: invitations, keys, certificates, and the registry of workers."""
