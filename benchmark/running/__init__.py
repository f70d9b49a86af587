"""Where a run happens, and that only one process works on it."""
