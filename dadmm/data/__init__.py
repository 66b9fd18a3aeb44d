"""What users bring, into the chunks of a run; what they take back, in their own containers.

containers   a matrix out of each container, and predictions back in the container that came
open         paths and URLs
columns      columns of tables, as numbers
prepare      all of that for training
arrays       matrices of NumPy, dask, zarr and SciPy
targets      targets, labels and sample weights, as columns of numbers
ingest       all of them into the run, measured on the way
write        predictions to files
"""
