"""The door: what writes a new entry, and what holds one to its contract."""
