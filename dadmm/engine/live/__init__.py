"""What a user sees of a run while it goes on: a line, curves in a notebook, a page in a dashboard.

`progress` is the line in a terminal and the display in a notebook, `dashboard` the page on Dask's
dashboard.  `curves` says what is drawn of a history; `charts` draws it by matplotlib, `templates`
fills in HTML: both for the pages of dadmm.app, too.
"""
