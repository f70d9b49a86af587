"""Names and files to one frozen, validated spec and its id."""
