"""A dataset to packed images, nested subsets, held-out images, and their digests."""
