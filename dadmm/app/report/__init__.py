"""What people read about a run: a table, a plot, a page of HTML."""
