"""Sparse matrices in zarr groups, in AnnData's on-disk format."""

import zarr


def write_sparse(path, matrix, encoding="csr_matrix", zarr_format=3, **parts):
    """Write the group ``X`` of a store; `parts` replace attributes or arrays; return the group."""
    store = zarr.open_group(
        path,
        mode="w",
        zarr_format=zarr_format,
        attributes={"encoding-type": "anndata", "encoding-version": "0.1.0"},
    )
    shape = parts.pop("shape", list(matrix.shape))
    attributes = {"encoding-type": encoding, "encoding-version": "0.1.0", "shape": shape}
    group = store.create_group("X", attributes=attributes)
    for name in ("data", "indices", "indptr"):
        part = parts.get(name, getattr(matrix, name))
        if part is not None:
            group.create_array(name, data=part, chunks=tuple(min(s, 64) or 1 for s in part.shape))
    return group
