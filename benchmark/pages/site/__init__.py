"""Records to a static site: it opens from a file as from a web server, and asks nothing of the network."""

from benchmark.pages.site.writing import Sources, build

__all__ = ["Sources", "build"]
