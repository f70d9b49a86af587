"""Records to statistics, claims, tables and pictures: the board, and the paper figure by figure."""
