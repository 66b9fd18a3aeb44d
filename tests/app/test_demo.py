"""``dadmm demo`` compares, draws, and replaces no run but its own."""

import sys
from pathlib import Path

import pytest

from dadmm.app import demo
from support.configs import configure
from support.messages import names
from support.terminal import command, digest, ok

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def small_demo(monkeypatch):
    model = {**demo.CONFIG["model"], "hidden_layer_sizes": [8], "max_iter": 2}
    monkeypatch.setitem(demo.CONFIG, "model", model)
    monkeypatch.setattr("sklearn.neural_network.MLPClassifier", Guess)


class Guess:
    loss_ = 1.0

    def __init__(self, *args, **options):
        pass

    def fit(self, x, y):
        return self

    def score(self, x, y):
        return 0.1


def test_the_demo_compares_draws_and_says_what_to_try_next(small_demo):
    done = ok("demo", "--run", "runs/demo", "--workers", 0)
    for words in ("dadmm, 3-splitting", "MLPClassifier", "plot       runs/demo.png", "Try next:"):
        assert words in done.out
    assert Path("runs/demo.png").exists()
    assert "dadmm, 3-splitting" in ok("demo", "--run", "runs/demo", "--workers", 0).out


def test_the_demo_replaces_no_run_but_its_own(small_demo, tmp_path):
    ok("fit", configure(tmp_path), "--run", "mine")
    before = digest("mine")
    done = command("demo", "--run", "mine", "--workers", 0)
    assert done.code == 2
    assert names(done.err, "mine")
    assert digest("mine") == before


def test_the_demo_goes_without_matplotlib(small_demo, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'dadmm[plot]'" in ok("demo", "--run", "d", "--workers", 0).out
