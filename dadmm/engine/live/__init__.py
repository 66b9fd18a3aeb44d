"""Show a run while it goes on.

progress    the line in a terminal, the display in a notebook
dashboard   the page on Dask's dashboard
curves      which columns of history are drawn, in which colours
charts      charts by matplotlib; for reports, too
templates   HTML from templates; for reports, too
"""
