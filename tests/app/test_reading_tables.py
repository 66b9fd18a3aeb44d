"""How a table is written is said once: in Python, a config or a flag; the run remembers it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dadmm import ADMMClassifier, ADMMRegressor, Table, load
from dadmm.data import open as opening
from dadmm.errors import InputError, OptionError
from support.messages import names, naming
from support.terminal import command

# Of Dask's writer of Parquet, about pandas 4.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")
RNG = np.random.default_rng(4)
X = RNG.normal(size=(80, 3)).round(3)
KIND = np.resize(["01", "NA", "12"], 80)
TABLE = pd.DataFrame(X, columns=list("abc")).assign(
    kind=KIND, id=1234567890123456789 + np.arange(80)
)
TABLE["y"] = X[:, 0] - X[:, 1] + (KIND == "NA")
DATA = 'x = "komma.csv"\ny = "y"\nindex = "id"\ndecimal = ","\n'
MODEL = '[model]\ntask = "regression"\nmax_iter = 3\nrandom_state = 0\ncategorical = "one_hot"\n'
MODEL += "hidden_layer_sizes = [6]\n"


def net(kind=ADMMRegressor, **options):
    return kind((6,), max_iter=3, random_state=0, categorical="one_hot", **options)


@pytest.fixture(autouse=True)
def files(here):
    TABLE.to_csv("komma.csv", index=False, sep=";", decimal=",")
    TABLE.drop(columns="y").to_csv("new.csv", index=False, sep=";", decimal=",")
    TABLE.to_csv("point.csv", index=False)


@pytest.fixture(params=[False, True], ids=["whole", "in blocks"])
def lazy(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(opening, "SMALL", 1000)
    return request.param


def expected():
    plain = TABLE.set_index("id")
    found = net().fit(plain, "y").predict(plain.drop(columns="y"))
    return pd.Series(found, plain.index)


def agrees(found):
    found = found.compute() if hasattr(found, "compute") else found
    wanted = expected()
    np.testing.assert_allclose(found.to_numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert found.index.tolist() == wanted.index.tolist()
    assert found.name == "y"


def test_python_says_it_once(lazy):
    model = net(run="run").fit(Table("komma.csv", decimal=",", index="id"), "y")
    for again in (model, load("run")):
        agrees(again.predict("new.csv"))
        agrees(again.predict(Table("point.csv", decimal=".")))
        assert again.score("komma.csv", "y") == pytest.approx(model.score("komma.csv", "y"))
    with pytest.raises(InputError, match=naming("point.csv", "row", "'a'", "decimal")):
        np.asarray(model.predict("point.csv"))
    frame = TABLE.set_index("id").drop(columns="y")
    np.testing.assert_allclose(model.predict(frame), expected(), rtol=1e-5, atol=1e-6)


def test_a_config_says_it_once(lazy):
    Path("c.toml").write_text(f"[data]\n{DATA}{MODEL}")
    assert command("fit", "c.toml", "--run", "run").code == 0
    done = command("predict", "run", "new.csv", "found.parquet")
    assert done.code == 0, done.err
    agrees(pd.read_parquet("found.parquet")["y"])
    agrees(load("run").predict("new.csv"))
    done = command("predict", "run", "point.csv", "no.csv")
    assert done.code == 2
    assert names(done.err, "point.csv", "'a'", "row 0", "decimal")
    assert command("predict", "run", "point.csv", "found.csv", "--decimal", ".").code == 0
    agrees(pd.read_csv("found.csv", index_col="id")["y"])


def test_flags_say_it(lazy):
    data = ["--data", "komma.csv", "--target", "y", "--task", "regression", "--run", "run"]
    done = command("fit", *data, "--categorical", "one_hot")
    assert done.code == 2
    assert names(done.err, "'a'", "decimal=','")
    flags = ["--decimal", ",", "--index", "id", "--dtype", "c=float64", "--na-values", "-"]
    done = command("fit", *data, "--categorical", "one_hot", *flags)
    assert done.code == 0, done.err
    assert load("run")._form.reading == {
        "decimal": ",", "index": "id", "dtype": {"c": "float64"}, "na_values": ["-"]
    }  # fmt: skip
    assert command("predict", "run", "new.csv", "found.csv").code == 0
    found = pd.read_csv("found.csv")
    assert found["id"].tolist() == TABLE["id"].tolist()
    done = command("fit", *data, "--dtype", "c")
    assert done.code == 2
    assert names(done.err, "--dtype", "c", "COLUMN")


def test_a_job_reads_as_its_run_did(lazy):
    Path("c.toml").write_text(f"[data]\n{DATA}{MODEL}")
    assert command("fit", "c.toml", "--run", "run").code == 0
    from dadmm.app.jobs import run_job

    options = '[run]\npath = "run"\n[predict]\ninput = "new.csv"\noutput = "found.npy"\n'
    Path("job.toml").write_text(options)
    code = run_job("predict", "job.toml")
    if lazy:
        assert code == 2  # a job reads tables in memory
        return
    assert code == 0
    np.testing.assert_allclose(np.load("found.npy"), expected(), rtol=1e-5, atol=1e-6)
    Path("job.toml").write_text(
        options.replace("new.csv", "point.csv").replace("found", "other") + 'decimal = "."\n'
    )
    assert run_job("predict", "job.toml") == 0
    np.testing.assert_allclose(np.load("other.npy"), expected(), rtol=1e-5, atol=1e-6)


def test_x_and_y_in_two_files():
    pd.DataFrame(X).to_csv("x.csv", index=False, header=False, sep=";", decimal=",")
    pd.Series(X[:, 0]).to_csv("y.csv", index=False, header=False, decimal=",")
    text = '[data]\nx = "x.csv"\ny = "y.csv"\ndecimal = ","\n[model]\ntask = "regression"\n'
    Path("c.toml").write_text(f"{text}max_iter = 2\n")
    done = command("fit", "c.toml", "--run", "run")
    assert done.code == 0, done.err


def test_a_config_lists_files():
    TABLE.iloc[:50].to_csv("b.csv", index=False)
    TABLE.iloc[50:].to_csv("a.csv", index=False)
    Path("c.toml").write_text(
        f'[data]\nx = ["b.csv", "a.csv"]\ny = "y"\nindex = "id"\ndtype = {{kind = "str"}}\n{MODEL}'
    )
    done = command("fit", "c.toml", "--run", "run")
    assert done.code == 0, done.err
    assert load("run").predict(["b.csv", "a.csv"]).index.tolist() == TABLE["id"].tolist()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("header = 1", ["[data]", "header"]),
        ('decimal = "x"', ["[data]", "decimal", "'x'"]),
        ('dtype = {a = "int"}', ["'a'", "'int'", "int64"]),
        ('dtype = "str"', ["[data]", "dtype"]),
        ('encoding = "klingon"', ["encoding", "'klingon'"]),
    ],
)
def test_bad_keys_are_named(line, words):
    Path("c.toml").write_text(f'[data]\nx = "point.csv"\ny = "y"\n{line}\n{MODEL}')
    done = command("fit", "c.toml", "--run", "run")
    assert done.code == 2
    assert names(done.err, *words)
    assert len(done.err.strip().splitlines()) == 1


def test_options_of_csv_are_refused_where_there_is_none():
    np.save("x.npy", X)
    Path("c.toml").write_text(f'[data]\nx = "x.npy"\ny = "x.npy"\ndecimal = ","\n{MODEL}')
    done = command("fit", "c.toml", "--run", "run")
    assert done.code == 2
    assert names(done.err, "decimal", "CSV")


def test_labels_stay_as_they_were_written(lazy):
    table = TABLE.drop(columns=["id", "y"])
    table.to_csv("labels.csv", index=False)
    model = net(ADMMClassifier, run="run").fit("labels.csv", "kind")
    assert model.classes_.tolist() == ["01", "12", "NA"]
    table[KIND == "12"].to_csv("some.csv", index=False)  # alone these look like numbers
    for again in (model, load("run")):
        assert 0 <= again.score("some.csv", "kind") <= 1
    table.drop(columns="kind").to_csv("new.csv", index=False)
    assert command("predict", "run", "new.csv", "found.csv").code == 0
    found = pd.read_csv("found.csv", dtype=str, keep_default_na=False)["kind"]
    assert set(found) <= {"01", "12", "NA"}


def test_categories_that_look_like_numbers_are_read_as_in_training(lazy):
    model = net().fit(TABLE.drop(columns="id"), "y")
    some = TABLE[KIND == "12"].drop(columns=["id", "y"])
    some.to_csv("some.csv", index=False)
    found = model.predict("some.csv")
    np.testing.assert_allclose(np.asarray(found), model.predict(some), rtol=1e-5, atol=1e-6)


def test_a_forged_run_says_what_is_wrong():
    model = net().fit(Table("komma.csv", decimal=",", index="id"), "y")
    for reading in ({"decimal": 3}, {"shell": "rm"}):
        object.__setattr__(model._form, "reading", reading)
        with pytest.raises((InputError, OptionError), match=naming(next(iter(reading)))):
            model.predict("new.csv")


def test_the_schema_has_the_options():
    done = command("config", "--schema")
    data = json.loads(done.out)["properties"]["data"]["properties"]
    assert data["decimal"]["enum"] == [".", ","]
    assert data["dtype"]["type"] == "object"
    assert data["header"]["type"] == "boolean"


def test_a_tab_may_be_written_as_in_other_programs():
    TABLE.to_csv("tabs.dat", index=False, sep="\t")
    data = ["--data", "tabs.dat", "--target", "y", "--task", "regression", "--run", "run"]
    done = command("fit", *data, "--categorical", "one_hot", "--delimiter", r"\t", "--index", "id")
    assert done.code == 0, done.err
    model, frame = load("run"), TABLE.set_index("id").drop(columns="y")
    np.testing.assert_allclose(model.predict("tabs.dat"), model.predict(frame), rtol=1e-5)
    for mark in (";;", ""):
        done = command("fit", *data, "--delimiter", mark)
        assert done.code == 2
        assert names(done.err, "delimiter", repr(mark), "one character")


def test_options_of_csv_are_refused_for_other_files():
    TABLE.to_parquet("x.parquet", index=False)
    np.save("x.npy", X)
    data = ["--task", "regression", "--run", "run", "--decimal", ","]
    done = command("fit", "--data", "x.parquet", "--target", "y", *data)
    assert done.code == 2
    assert names(done.err, "decimal", "x.parquet", "CSV", "leave it out")


def test_a_cell_that_is_new_at_prediction_may_mean_a_missing_value():
    model = ADMMRegressor(max_iter=2, missing="impute").fit(TABLE[["a", "b", "c"]], TABLE["y"])
    TABLE[["a", "b", "c"]].astype(str).replace(str(X[7, 1]), "n.a.").to_csv("gap.csv", index=False)
    with pytest.raises(InputError, match=naming("gap.csv", "'b'", "na_values=['n.a.']")):
        model.predict("gap.csv")
    filled = TABLE[["a", "b", "c"]].replace(X[7, 1], np.nan)
    found = model.predict(Table("gap.csv", na_values=["n.a."]))
    np.testing.assert_allclose(found, model.predict(filled), rtol=1e-5)
