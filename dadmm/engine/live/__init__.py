"""What a user sees of a run: while it goes on, and afterwards.

`progress` is the line in a terminal and the curves in a notebook, `dashboard` the page on Dask's
dashboard, `report` the file in HTML, `plot` the picture; `describe` puts runs into words.  They
share `curves`, what is drawn of a history; `charts` draws it as SVG, from the elements of `markup`;
`outcome` looks at what a network makes of its training rows.
"""
