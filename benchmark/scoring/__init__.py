"""A trained network to PSNR curves, and those to a record."""
