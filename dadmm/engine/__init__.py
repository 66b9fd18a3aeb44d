"""Run a solver over chunks of data: on Dask, or task by task without it.

plan       what every task knows, and how far the run is
tasks      what one task does: read, call the solver, write
layout     the tasks of an iteration, and which waits for which
graph      these tasks as a graph of Dask
eager      these tasks without Dask, with a store or in plain memory
compute    compute a graph; turn what stopped it into one line
loop       iterate, commit, stop, resume
recovery   find damaged bytes of the store, and go back to what is intact
contents   the arrays that a stored run must have
examine    read all of a stored run, and say what is damaged or missing
memory     rows per chunk, from the memory of a worker
stored     from the attributes of a stored run to its plan
session    a run that is open: its plan, its progress, its results
result     the network and the scaling of a run
timing     seconds and memory that the tasks take
live/      what a user sees of a run while it goes on
"""
