"""The run store: data, state generations, parameters, history, and the commit record.

    RUN/                       a zarr v3 group: a local folder, or a URL through fsspec
      zarr.json                attributes: format version, config, package versions, machine
      data/x, data/y           (sample, feature), (sample, target); x may stay in the user's store
      data/row                 the caller's number of each row, if the rows were dealt to the chunks
      data/x_pieces            ranges of rows of x in the user's store, chunk after chunk
      shuffle/                 blocks that are cut up, until every chunk is put together
      initial/                 parameters given to start from, until the run has started
      scaling/                 centre and scale of inputs and targets
      constants/               sums that never change (the inputs' Gram matrix)
      state/<generation>/      one array per per-sample variable; a zarr chunk = a data chunk
      params/<generation>/     w_1, b_1, ...; the last few, and the best
      network/<number>/        the finished network, with its last refit
      history/                 (iteration,) arrays
      commit.json              {iteration, generation, status, rows of history not yet in arrays}
      commit.previous.json     the record before, in case commit.json is damaged
      lock.json                the driver that is training

Every file has a checksum: chunks end in a CRC-32C, metadata and records carry one.  Nothing stored
is a pickle, and names never lead out of the folder: links in a store are refused.

Iteration k reads one generation, g, and writes the next, whole chunks only.  This is true if the
process dies:

* while tasks run: generation g and its parameters are untouched, and the record says g.
  Generation g + 1 is partial: `Run.sweep` deletes it on resume.
* after the tasks, before the record is renamed into place: generation g + 1 is whole and synced,
  but the record still says g.  Resume deletes g + 1 and computes it again, to the same bits.
* after the rename: the record says g + 1, and g + 1 is whole.  Generation g - 1 may still exist:
  resume deletes it.

A task that runs twice writes the same bytes twice.  A late task of an earlier session, which may
have had other options, must not write into a generation in use.  So a session that resumes claims
a generation number that no session before it had claimed (`next` in the record).  A run that
overwrites another starts at a random number, for the same reason.
"""

from typing import TYPE_CHECKING

from dadmm.lazy import lazy

if TYPE_CHECKING:
    from dadmm.store.arrays import Blocks, MemoryBlocks, ZarrBlocks
    from dadmm.store.run import FLUSH_EVERY, FORMAT, KEPT_PARAMS, Run

__all__ = ["FLUSH_EVERY", "FORMAT", "KEPT_PARAMS", "Blocks", "MemoryBlocks", "Run", "ZarrBlocks"]
_HOMES = {
    "Blocks": "arrays",
    "FLUSH_EVERY": "run",
    "FORMAT": "run",
    "KEPT_PARAMS": "run",
    "MemoryBlocks": "arrays",
    "Run": "run",
    "ZarrBlocks": "arrays",
}

__getattr__, __dir__ = lazy(__name__, _HOMES)
