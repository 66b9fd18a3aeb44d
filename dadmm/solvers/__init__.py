"""Training methods, one to a file, and the form that they share."""
