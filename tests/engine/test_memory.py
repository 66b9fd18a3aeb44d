"""Rows per chunk: from the memory of a worker, never from the number of workers."""

import re

import numpy as np
import pytest
from dask.utils import parse_bytes

from dadmm.cluster.worker import BASE_BYTES
from dadmm.engine.layout import FAN_IN
from dadmm.engine.memory import SMALLEST, USABLE, chunk_rows, footprint, worker_bytes
from dadmm.errors import OptionError, ShapeError
from dadmm.networks.architecture import Architecture
from dadmm.solvers.block.method import BlockADMM
from dadmm.solvers.counts import counts_of
from dadmm.solvers.problem import Problem
from dadmm.solvers.relaxed.method import RelaxedADMM
from support.messages import naming

SOLVER = RelaxedADMM()


def problem(rows, features=100, hidden=(64, 64), dtype="float32"):
    arch = Architecture.build(features, hidden, 10)
    return Problem(arch, "cross_entropy", 1e-3, rows, classes=10, dtype=dtype)


WANTED = counts_of(SOLVER).granularity(SOLVER, problem(1))
CHUNKS, CHUNK_BYTES = WANTED.fewest, WANTED.most_bytes


def auto(rows, **options):
    return chunk_rows(SOLVER, problem(rows), "auto", **options)


@pytest.mark.parametrize("rows", [1, 7, 255, 256, 2047, 2048, 2049, 100_000, 3_000_017])
def test_automatic_chunks_tile_the_rows_and_only_the_last_is_smaller(rows):
    chunks = auto(rows)
    assert sum(chunks) == rows
    assert len(set(chunks[:-1])) <= 1
    assert 0 < chunks[-1] <= chunks[0]


def test_small_data_is_one_chunk_and_more_data_some_for_every_worker():
    assert len(auto(SMALLEST)) == 1
    assert len(auto(CHUNKS * SMALLEST)) == CHUNKS
    assert len(auto(CHUNKS * 10_000)) == CHUNKS


@pytest.mark.parametrize("rows", [10_000, 100_000, 10**7, 10**7 + 1])
@pytest.mark.parametrize("agents", [1, 2, 3, 8])
@pytest.mark.parametrize("memory_limit", [None, "680MB"])
def test_every_round_of_block_admm_has_a_chunk_for_each_agent(rows, agents, memory_limit):
    chunks = chunk_rows(BlockADMM(agents=agents), problem(rows), "auto", memory_limit)
    assert sum(chunks) == rows
    assert len(chunks) % agents == 0
    assert max(chunks) - min(chunks) < len(chunks)  # as equal as whole numbers are


def test_large_data_has_chunks_of_the_size_that_storage_likes():
    chunks = auto(10**8)
    most = CHUNK_BYTES // (100 * 4)
    assert max(chunks) <= most
    assert len(chunks) == -(-(10**8) // most)  # no more than it takes


def test_a_row_wider_than_a_chunk_is_a_chunk():
    wide = problem(3, features=CHUNK_BYTES)
    # Nothing is that large here: the workers are said to be.
    assert chunk_rows(SOLVER, wide, memory_limit="99PiB") == (1, 1, 1)
    with pytest.raises(OptionError, match=r"\b16777216\b.*PiB"):
        chunk_rows(SOLVER, wide)
    with pytest.raises(OptionError, match=naming("16777216", "PiB", "memory_limit")):
        chunk_rows(SOLVER, wide, chunks=1, memory_limit="2GiB")


def test_less_memory_gives_smaller_chunks_whose_visit_fits():
    sizes = [auto(10**7, memory_limit=limit)[0] for limit in ("620MB", "720MB", "2GB", None)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[1] < sizes[2]
    assert worker_bytes(SOLVER, problem(10**7), sizes[1]) <= USABLE * 720e6


def test_more_visits_at_once_need_smaller_chunks_and_smaller_inputs_larger_ones():
    one = auto(10**7, memory_limit="720MB")[0]
    assert auto(10**7, memory_limit="720MB", threads=4)[0] < one / 3
    assert auto(10**7, memory_limit="720MB", inputs=1)[0] > one


def row(solver, problem):
    return worker_bytes(solver, problem, 1001) - worker_bytes(solver, problem, 1000)


def fixed(solver, problem):
    return worker_bytes(solver, problem, 0) - BASE_BYTES


def test_a_row_costs_more_in_a_wider_network_and_in_double_precision():
    wider, double = problem(1000, hidden=(128, 128)), problem(1000, dtype="float64")
    assert row(SOLVER, wider) > row(SOLVER, problem(1000))
    assert fixed(SOLVER, wider) > fixed(SOLVER, problem(1000))
    assert row(SOLVER, double) > row(SOLVER, problem(1000))


def test_state_that_is_not_stored_costs_memory_all_the_same():
    assert row(RelaxedADMM(state="recompute"), problem(1000)) > 4 * 2 * (64 + 64)


def test_sums_wait_for_a_full_group_of_the_tree_and_no_more():
    def held(chunks):
        return worker_bytes(SOLVER, problem(1000 * chunks), 1000)

    assert held(1) < held(2) < held(FAN_IN) < held(FAN_IN + 1)
    assert held(FAN_IN**2) == held(FAN_IN**2 - 1)
    assert held(FAN_IN**5) - held(FAN_IN) < 5 * (held(FAN_IN**2) - held(FAN_IN))


@pytest.mark.parametrize("solver", [SOLVER, RelaxedADMM(splitting=2), BlockADMM()])
@pytest.mark.parametrize("threads", [1, 3])
def test_too_little_memory_is_refused_with_the_number_that_suffices(solver, threads):
    def rows(memory):
        return chunk_rows(solver, problem(10**7), "auto", memory, threads)[0]

    with pytest.raises(OptionError, match=naming("memory_limit='100MB'")) as caught:
        rows("100MB")
    enough = re.search(r"\d+ MiB", str(caught.value))[0]
    assert rows(enough) >= SMALLEST
    with pytest.raises(OptionError):
        rows(parse_bytes(enough) - 2**21)


@pytest.mark.parametrize("chunks", ["auto", 10**6])
def test_a_limit_in_bytes_is_told_in_larger_units(chunks):
    with pytest.raises(OptionError, match=naming("memory_limit=200.00 MiB")):
        chunk_rows(SOLVER, problem(10**7), chunks, 200 * 2**20)


@pytest.mark.parametrize("solver", [SOLVER, BlockADMM()])
def test_given_chunks_too_large_for_the_memory_are_refused_with_those_that_fit(solver):
    limit = "780MB"
    with pytest.raises(OptionError, match=naming("memory_limit='780MB'", "1000000 rows")) as caught:
        chunk_rows(solver, problem(10**7), 10**6, limit)
    needed, fitting = re.search(r"(\d+ MiB)\b.*\bchunks=(\d+)", str(caught.value)).groups()
    assert chunk_rows(solver, problem(10**7), int(fitting), limit)[0] == int(fitting)
    assert chunk_rows(solver, problem(10**7), 10**6, needed)[0] == 10**6
    with pytest.raises(OptionError):
        chunk_rows(solver, problem(10**7), 10**6, parse_bytes(needed) - 2**21)


@pytest.mark.parametrize("limit", ["two", "2 apples", [1]])
def test_memory_that_is_no_size_is_refused(limit):
    with pytest.raises(OptionError, match=naming(f"memory_limit={limit!r}", "'2GiB'")):
        auto(1000, memory_limit=limit)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (4, (4, 4, 2)),
        (np.int64(5), (5, 5)),
        (10, (10,)),
        (1000, (10,)),
        ([4, 4, 2], (4, 4, 2)),
        ((5, np.int32(5)), (5, 5)),
        ((10,), (10,)),
    ],
)
def test_given_chunks_are_taken(chunks, expected):
    found = chunk_rows(SOLVER, problem(10), chunks)
    assert found == expected
    assert all(type(rows) is int for rows in found)


@pytest.mark.parametrize(
    ("chunks", "error", "message"),
    [
        ([4, 4], ShapeError, ["chunks=(4, 4)", "8 rows", "10"]),
        ([4, 4, 4], ShapeError, ["12 rows", "10"]),
        ([], ShapeError, ["0 rows", "10"]),
        ([2, 4, 4], ShapeError, ["chunks=(2, 4, 4)"]),
        ([4, 2, 4], ShapeError, ["chunks=(4, 2, 4)"]),
        ([0, 10], OptionError, ["chunks", "1 row"]),
        ([-1, 11], OptionError, ["chunks", "1 row"]),
        ([2.5, 7.5], OptionError, ["chunks", "1 row"]),
        (((4, 4, 2),), OptionError, ["chunks", "1 row"]),
        (0, OptionError, ["chunks", "1 row"]),
        (-3, OptionError, ["chunks", "1 row"]),
        (2.5, OptionError, ["chunks", "'auto'"]),
        (True, OptionError, ["chunks", "'auto'"]),
        (None, OptionError, ["chunks", "'auto'"]),
        ("all", OptionError, ["chunks", "'auto'"]),
    ],
)
def test_chunks_that_do_not_fit_the_rows_are_refused(chunks, error, message):
    with pytest.raises(error, match=naming(*message)):
        chunk_rows(SOLVER, problem(10), chunks)


def test_block_admm_counts_its_parameters_not_squares_of_widths():
    wide = problem(1000, features=20_000, hidden=(64,))
    assert 10 * 4 * 20_000 * 64 < fixed(BlockADMM(), wide) < 1e9


def test_a_task_of_the_grid_counts_one_block():
    deep = problem(1000, hidden=(512,) * 8)
    fused = footprint(BlockADMM(blocks=9), deep, 4, 2)
    grid = footprint(BlockADMM(blocks=9, schedule="grid"), deep, 4, 2)
    assert fused.visit - grid.visit > 4 * 4 * 5 * 512**2  # four arrays of float32


def test_blocks_of_a_dask_array_count_while_they_are_stored():
    """Wide inputs that a network hardly needs to hold: what is stored decides."""
    wide = problem(10**6, features=4000, hidden=(8,))

    def rows(**options):
        return chunk_rows(BlockADMM(), wide, "auto", "860MB", inputs=8, **options)[0]

    assert rows(streamed=True) < rows()
    assert BASE_BYTES + 4 * rows(streamed=True) * 4000 * 8 <= USABLE * 860e6


def test_more_chunks_than_a_graph_can_have_are_refused():
    with pytest.raises(OptionError, match=naming("3,000,000 chunks", "1 rows")):
        chunk_rows(SOLVER, problem(3_000_000), chunks=1)


# ---------------------------------------------------------------------- pieces of inputs in place


def wide(rows):
    arch = Architecture.build(784, (256, 256), 10)
    return BlockADMM(), Problem(arch, "cross_entropy", 1e-3, rows, 10)


@pytest.mark.parametrize("rows", [60_000, 1_000_000, 123_456_789])
@pytest.mark.parametrize("unit", [1, 100, 500])
def test_chunks_are_whole_pieces_and_the_last_is_nearly_full(rows, unit):
    preferred = chunk_rows(*wide(rows), "auto")[0]
    *_, last = found = chunk_rows(*wide(rows), "auto", in_place=True, unit=unit, least=30 * unit)
    assert found[0] % unit == 0
    assert 0.9 * preferred - unit < found[0] <= 1.05 * preferred
    assert last > 0.8 * found[0] or len(found) > 100


def test_a_little_more_in_a_chunk_saves_a_round():
    how = {"in_place": True, "unit": 300, "least": 9000}
    assert chunk_rows(*wide(40_000), "auto", **how) == (20_100, 19_900)


def test_chunks_of_much_data_grow_until_they_have_enough_pieces():
    def of(rows, unit, memory=None):
        how = {"in_place": True, "unit": unit, "least": 30 * unit}
        return chunk_rows(*wide(rows), "auto", memory, 1, 1, **how)[0]

    assert 30_000 <= of(10**8, 1000) <= 31_000
    assert of(10**8, 5000) < 30_000  # nothing says that there is memory for it
    assert of(10**8, 5000, "4GiB") >= 150_000
    assert of(60_000, 1000) < 30_000  # too few chunks would be left


def test_pieces_take_less_memory_than_a_range_of_rows():
    solver, problem = wide(10**6)
    given = solver, problem, 20_000, 1, 4
    ranges, pieces = worker_bytes(*given, in_place=True), worker_bytes(*given, True, 100)
    copied = worker_bytes(*given)
    assert copied < pieces < ranges
    assert pieces - copied == (20_000 + 3 * 8 * 100) * 784 * 4
    assert worker_bytes(*given, True, 20_000) == ranges
