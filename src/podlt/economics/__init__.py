"""What the proof costs, how soon it finds a fake, and what cheating pays: closed forms and a dynamic programme."""
