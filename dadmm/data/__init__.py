"""From the user's containers to the chunks of a run, and from predictions back to containers.

containers   what every container of rows can do; plain arrays
frames       data frames of pandas and dask
labelled     arrays and data sets of xarray
open         open paths and URLs
columns      encode the columns of tables as numbers
prepare      take inputs and targets out of their containers
arrays       check matrices of NumPy, dask, zarr and SciPy
targets      check targets, labels and sample weights
ingest       write inputs and targets into the run, and measure them on the way
write        write predictions to files
"""
