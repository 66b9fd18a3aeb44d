"""Arrays in, arrays out: no network, no files, no Dask."""
