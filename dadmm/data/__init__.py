"""From the user's containers to the chunks of a run, and from predictions back to containers.

containers   what every container of rows can do; plain arrays
frames       data frames of pandas and dask
labelled     arrays and data sets of xarray
open         open paths and URLs: tables as CSV
files        the files that a path names, in their order
parquet      tables as Parquet
stores       arrays and data sets in zarr, and .npy
columns      encode the columns of tables as numbers
prepare      take inputs and targets out of their containers
arrays       check matrices of NumPy, dask, zarr and SciPy
targets      check targets, labels and sample weights
moments      how to scale data, and how different chunks are
deal         which rows each chunk has
exchange     hand rows over to their chunks: a shuffle on the disk
ingest       write inputs and targets into the run, and measure them on the way
write        write predictions to files
"""
