"""The instrument: it measures what registry/ declares."""

__version__ = "0.1.0"
