"""Read CSV: what the file is, where its records end, what its cells are, and its rows."""
