"""What lies where in a finished run, and what others read of it."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from dadmm import ADMMRegressor, BlockADMM, Dense, RelaxedADMM, Residual, load, resume
from dadmm.engine.session import Session
from dadmm.store import Run
from support.stores import data, small


def test_xarray_opens_state_history_and_data_with_named_dimensions(fitted):
    def group(name):
        return xr.open_zarr(fitted.run_, group=name, consolidated=False)

    state = group("state/3")
    assert state["v_1"].dims == ("sample", "v_1_unit")
    assert state["u_2"].dims == ("sample", "u_2_unit")
    assert state.sizes["sample"] == 90
    assert state["v_1"].dtype == np.float32
    assert state["v_1"].data.chunksize == (40, 6)
    assert np.isfinite(state["v_1"]).all()
    assert group("data")["x"].dims == ("sample", "feature")
    np.testing.assert_array_equal(group("data")["x"], data()[0])
    assert group("data")["y"].dims == ("sample", "target")
    assert group("params/3")["w_2"].dims == ("in_2", "out_2")
    assert group("params/3")["b_2"].dims == ("out_2",)
    np.testing.assert_array_equal(group("network/4")["w_1"], fitted.network_.params["w_1"])
    history = group("history")
    assert history["objective"].dims == ("iteration",)
    np.testing.assert_array_equal(history["iteration"], [1, 2, 3])
    np.testing.assert_array_equal(history["objective"], fitted.history_["objective"])


def test_xarray_opens_what_block_admm_keeps_per_sample_and_per_chunk(tmp_path):
    solver = BlockADMM(blocks=2, mode="batch", consensus="admm", batch_size=16)
    fitted = small(solver=solver, run=tmp_path / "run").fit(*data())

    def group(name):
        return xr.open_zarr(tmp_path / "run", group=name, consolidated=False)

    state, params = group("state/3"), group("params/3")
    assert set(state) == {"z_1", "u_1", "pi_1", "sent_1", "pi_2", "sent_2"}
    assert state["z_1"].dims == ("sample", "z_1_unit")
    assert state["pi_1"].dims == ("chunk", "pi_1_unit")
    assert dict(state.sizes) | {"sample": 90, "chunk": 3} == dict(state.sizes)
    assert params["theta_1"].dims == params["m_1"].dims == ("parameter_1",)
    assert params["count_1"].dims == ()
    # In each of 3 passes: 3 mini-batches of the chunks of 40 rows, then 1 of the chunk of 10.
    assert int(params["count_1"]) == 3 * (3 + 1)
    assert group("network/4")["w_2"].dims == ("in_2", "out_2")
    np.testing.assert_array_equal(group("network/4")["w_1"], fitted.network_.params["w_1"])


@pytest.mark.filterwarnings("ignore:Object at commit")
def test_zarr_finds_the_whole_tree_from_the_root(fitted):
    found = dict(zarr.open_group(fitted.run_, mode="r").members(max_depth=None))
    assert {"data/x", "state/3/v_1", "params/3/w_1", "history/objective", "network/4/w_1"} <= set(
        found
    )


def test_nothing_in_a_store_is_a_pickle_and_every_chunk_has_a_checksum(fitted):
    """All files are JSON or chunks, and a chunk is its numbers and four bytes of CRC-32C."""
    root = Path(fitted.run_)
    chunk_bytes = {}
    for path in root.rglob("zarr.json"):
        described = json.loads(path.read_text())
        if described["node_type"] == "array":
            assert [codec["name"] for codec in described["codecs"]] == ["bytes", "crc32c"]
            dtype = np.dtype(described["data_type"])
            assert dtype.kind in "biuf"
            shape = described["chunk_grid"]["configuration"]["chunk_shape"]
            chunk_bytes[path.parent] = dtype.itemsize * int(np.prod(shape)) + 4
    assert len(chunk_bytes) > 30
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".json":
            array = next(parent for parent in path.parents if parent in chunk_bytes)
            assert path.name.startswith("c.")
            assert path.stat().st_size == chunk_bytes[array]


def test_the_config_is_readable_json(fitted):
    attributes = json.loads((Path(fitted.run_) / "zarr.json").read_text())["attributes"]["dadmm"]
    assert attributes["config"]["params"]["hidden_layer_sizes"] == [6, 6]
    assert attributes["config"]["solver"]["splitting"] == 3
    assert attributes["versions"]["dadmm"]
    assert attributes["machine"]["blas"]


def test_a_finished_run_leaves_the_documented_layout_and_nothing_else(fitted):
    root = Path(fitted.run_)
    top = {"zarr.json", "commit.json", "commit.previous.json"} | {
        "data", "scaling", "constants", "state", "params", "network", "history"
    }  # fmt: skip
    assert set(os.listdir(root)) == top
    assert Run.open(root).blocks.names("state") == ["2", "3"]
    assert Run.open(root).blocks.names("params") == ["1", "2", "3"]


def test_online_block_admm_leaves_nothing_per_sample(tmp_path):
    small(solver=BlockADMM(blocks=2), run=tmp_path / "run").fit(*data())
    assert not {"state", "constants"} & set(os.listdir(tmp_path / "run"))


@pytest.mark.parametrize(
    "solver",
    [
        BlockADMM(blocks=[2, 3], constraints=["simplex", ""]),
        BlockADMM(blocks=[Dense(5, "tanh"), Residual("relu")], constraints="non_negative"),
        BlockADMM(mode="batch", blocks=2, agents=np.int64(1), rho=np.float32(0.5)),
    ],
    ids=["layers", "blocks", "numpy"],
)
def test_a_stored_block_solver_is_the_one_that_was_stored(tmp_path, solver):
    fitted = small(solver=solver, run=tmp_path / "run").fit(*data())
    assert Session.open(tmp_path / "run").plan.solver == solver
    found = load(tmp_path / "run")
    np.testing.assert_array_equal(found.predict_proba(data()[0]), fitted.predict_proba(data()[0]))
    assert resume(tmp_path / "run", max_iter=4).n_iter_ == 4


def test_a_stored_plan_is_the_plan_that_was_stored(tmp_path):
    x, _ = data()
    solver = RelaxedADMM(splitting=2, inner_steps=3, mu=0.5)
    made = ADMMRegressor(
        (4, 5), "tanh", solver=solver, max_iter=1, chunks=(50, 40), run=tmp_path / "run"
    ).fit(x, x[:, :2])
    plan = Session.open(tmp_path / "run").plan
    assert plan.solver == solver
    assert plan.chunks == (50, 40)
    assert plan.problem.architecture == made.network_.architecture
    assert plan.problem.target_variation == pytest.approx(2 * 90, rel=1e-3)
    assert resume(tmp_path / "run", max_iter=2).n_iter_ == 2
