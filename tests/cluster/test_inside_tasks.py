"""A fit inside a task of a cluster computes in its slot, to the same values as anywhere."""

import asyncio
import time

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
from distributed import Client, LocalCluster
from sklearn.datasets import load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score

from dadmm import NMF, ADMMClassifier, resume
from dadmm.errors import DataError, InputError
from support.clusters import processes
from support.messages import naming

X, KINDS = load_iris(return_X_y=True)
OPTIONS = {"max_iter": 3, "random_state": 0}
PATIENCE = 60


def probabilities(x=X, y=KINDS, **options):
    return ADMMClassifier((8,), **OPTIONS, **options).fit(x, y).predict_proba(X)


def lazy_probabilities(chunk):
    x, y = da.from_array(X, chunks=(chunk, 4)), da.from_array(KINDS, chunks=chunk)
    some = x[da.ones(150, chunks=chunk, dtype=bool)]  # of unknown chunk sizes
    model = ADMMClassifier((8,), **OPTIONS).fit(some, y)
    return model.score(x, y), model.predict_proba(x).compute()


def search():
    net = ADMMClassifier((8,), **OPTIONS)
    return GridSearchCV(net, {"alpha": [1e-3, 0.1]}, cv=2, error_score="raise")


@pytest.fixture(scope="module", params=["threads", "processes"])
def client(request):
    """Give a client of a cluster with as few slots as there can be."""
    if request.param == "processes":
        with processes(2) as client:
            yield client
        return
    with (
        LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def expected():
    with dask.config.set(scheduler="threads"):
        return probabilities()


def test_fits_are_submitted_mapped_and_delayed(client, expected):
    found = [client.submit(probabilities, pure=False).result(PATIENCE)]
    found += client.gather(client.map(probabilities, [X] * 5, [KINDS] * 5, pure=False))
    found += dask.compute(*[dask.delayed(probabilities)(X, KINDS) for _ in range(3)])
    for each in found:
        np.testing.assert_array_equal(each, expected)


def test_lazy_inputs_are_read_in_a_task(client, expected):
    score, found = client.submit(lazy_probabilities, 50, pure=False).result(PATIENCE)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert score == (expected.argmax(axis=1) == KINDS).mean()


def test_what_was_persisted_is_told_to_come_as_a_future(client, expected):
    x = da.from_array(X, chunks=(50, 4)).persist()
    with pytest.raises(DataError, match=naming("x", "client.compute(x)")):
        client.submit(probabilities, x, pure=False).result(PATIENCE)
    found = client.submit(probabilities, client.compute(x), pure=False).result(PATIENCE)
    np.testing.assert_array_equal(found, expected)


def test_a_stored_run_is_made_and_resumed_in_a_task(client, expected, tmp_path):
    run = str(tmp_path / "run")
    found = client.submit(probabilities, run=run, pure=False).result(PATIENCE)
    np.testing.assert_array_equal(found, expected)

    def more():
        return resume(run, max_iter=5).n_iter_

    assert client.submit(more, pure=False).result(PATIENCE) == 5


def test_a_factorisation_computes_in_its_slot(client):
    def codes(x):
        model = NMF(2, **OPTIONS).fit(da.from_array(x, chunks=(50, 4)))
        return model.score(da.from_array(x, chunks=(50, 4)))

    expected = NMF(2, **OPTIONS).fit(X).score(X)
    assert client.submit(codes, X, pure=False).result(PATIENCE) == pytest.approx(expected, rel=1e-3)


def test_searches_run_under_joblibs_dask_backend(client):
    expected, started = search().fit(X, KINDS), time.monotonic()
    nested = cross_val_score(search(), X, KINDS, cv=2)
    votes = VotingClassifier([("a", expected), ("b", LogisticRegression())], n_jobs=2)
    voted = cross_val_score(votes, X, KINDS, cv=2)
    with joblib.parallel_config(backend="dask"):
        found = search().fit(X, KINDS)
        np.testing.assert_array_equal(cross_val_score(search(), X, KINDS, cv=2), nested)
        np.testing.assert_array_equal(cross_val_score(votes, X, KINDS, cv=2), voted)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_array_equal(found.cv_results_[name], expected.cv_results_[name])
    assert time.monotonic() - started < PATIENCE


def test_an_asynchronous_client_is_refused_in_one_line(expected):
    async def refused():
        options = {"asynchronous": True, "processes": False, "dashboard_address": None}
        async with Client(**options):
            with pytest.raises(InputError, match=naming("asynchronous", "Client", "to_thread")):
                probabilities()
            return await asyncio.to_thread(probabilities)

    np.testing.assert_allclose(asyncio.run(refused()), expected, rtol=1e-4, atol=1e-5)
