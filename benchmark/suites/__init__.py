"""Many runs: sweeps on one machine or a cluster, what they cost, the DVC pipeline, and holding them against their records."""
