"""What networks are built, computed and counted with: attention, diffusion, numerics, cost, weights from elsewhere."""
