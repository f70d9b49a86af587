"""Kills at file operations, servers that die, clocks that jump: what becomes of the results (docs/reliability.md)."""
