"""``dadmm plan`` says what a run will take, and what it cannot plan."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
import zarr

from dadmm import ADMMClassifier
from dadmm.app.planner.machine import place, save, typical
from dadmm.app.planner.units import duration, rate
from dadmm.errors import OptionError
from support.messages import names, naming
from support.terminal import command

CONFIG = """
[data]
x = "x.npy"
y = "y.npy"
[model]
hidden_layer_sizes = [16, 16]
max_iter = 7
chunks = 50
[solver]
name = "relaxed"
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    np.save("x.npy", rng.normal(size=(400, 5)).astype(np.float32))
    np.save("y.npy", np.arange(400) % 3)
    (tmp_path / "config.toml").write_text(CONFIG)


def ok(*arguments):
    done = command("plan", "config.toml", *arguments)
    assert done.code == 0, done
    return done.out


def told(text, name):
    found = re.search(rf"^{name}  +(.+)$", text, re.MULTILINE)
    assert found, text
    return found[1].strip()


def test_a_plan_says_what_a_run_takes():
    text = ok("--workers", 4, "--memory", "1GiB", "--price", "0.5")
    assert told(text, "network") == "5 - 16 - 16 - 3, solver relaxed"
    assert told(text, "rows") == "400 in 8 chunks of 50"
    assert re.fullmatch(r"[\d.]+ MiB of 1.00 GiB per worker", told(text, "memory"))
    assert "3 generations of" in told(text, "disk")
    assert told(text, "tasks") == "18 per iteration"
    assert re.fullmatch(r"[\d.]+ s on 4 workers", told(text, "iteration"))
    assert re.match(r"\d+ workers?: twice as many", told(text, "enough"))
    assert "on 4 workers" in told(text, "price")
    for phase in ("read", "visit", "write", "solve", "scheduler", "settle", "driver"):
        assert told(text, phase)
    assert re.search(r"^ +4,096 ", text, re.MULTILINE)


def test_it_says_whether_anything_was_measured(tmp_path):
    assert "nothing was measured" in ok()
    save(typical(), place())
    (tmp_path / "cache" / "dadmm" / "machine.json").write_text("{")
    done = command("plan", "config.toml")
    assert done.code == 2
    assert names(done.err, "machine.json", "calibration")
    assert done.err.count("\n") == 1


def test_the_config_says_how_many_workers_with_how_much(tmp_path):
    text = CONFIG + '[cluster]\nworkers = 3\nmemory_limit = "2GiB"\n'
    (tmp_path / "config.toml").write_text(text)
    found = ok()
    assert "on 3 workers" in told(found, "iteration")
    assert "of 2.00 GiB" in told(found, "memory")
    assert "on 5 workers" in told(ok("--workers", 5), "iteration")


def test_the_data_may_be_a_sample():
    text = ok("--rows", 200_000)
    assert told(text, "rows") == "200,000 in 4,000 chunks of 50"


def test_what_is_planned_is_what_is_trained(monkeypatch, tmp_path):
    """Rows per chunk and widths come out as `fit` chooses them, data in zarr stay there."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)).astype(np.float32)
    zarr.create_array("x.zarr", data=x, chunks=(100, 5))
    text = CONFIG.replace("x.npy", "x.zarr").replace("chunks = 50\n", "")
    (tmp_path / "config.toml").write_text(text)
    found = ok("--memory", "1GiB")
    assert "inputs stay where they are" in told(found, "disk")
    made = ADMMClassifier((16, 16), solver="relaxed", max_iter=1, memory_limit="1GiB", run="run")
    made.fit(zarr.open_array("x.zarr", mode="r"), np.load("y.npy"))
    from dadmm.store import Run

    chunks = Run.open("run").attributes["chunks"]
    assert told(found, "rows") == f"400 in {len(chunks)} chunks of {chunks[0]}"


def test_more_of_everything_changes_the_plan():
    base = ok("--workers", 4)
    slow = ok("--workers", 4, "--net", "1Mbit", "--disk", "1MB/s", "--task", "100ms")
    seconds = [float(told(text, "iteration").split()[0]) for text in (base, slow)]
    assert seconds[1] > 3 * seconds[0]
    assert "sends 0.000125 GB/s" in told(slow, "a worker")
    assert "100 ms a task" in told(slow, "scheduler")


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not any(k in ("src", "href") and v[0] != "#" for k, v in attrs)


def test_a_page_has_the_same_and_needs_nothing_else(tmp_path):
    ok("--workers", 4, "--html", "plan.html", "--price", 1)
    text = (tmp_path / "plan.html").read_text()
    parser = Tags()
    parser.feed(text)
    assert parser.seen.count("table") == 4
    assert parser.seen.count("svg") == 1
    assert "script" not in parser.seen
    for words in ("worker hours", ">if nobody waited</text>", "4 workers"):
        assert words in text
    body = text.partition("<svg")[2].partition("</svg>")[0]
    ElementTree.fromstring(f"<svg{body}</svg>")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--memory", "much"], ["memory_limit='much'", "'2GiB'"]),
        (["--memory", "100MB"], ["memory_limit='100MB'"]),
        (["--disk", "fast"], ["--disk 'fast'", "1GB/s"]),
        (["--net", "0"], ["--net '0'", "1e+15"]),
        (["--net", "1e99GB"], ["--net '1e99GB'", "1e+15"]),
        (["--latency", "soon"], ["--latency 'soon'", "1ms"]),
        (["--task", "-1s"], ["--task '-1s'", "1ms"]),
        (["--latency", "1h"], ["--latency '1h'", "60"]),
        (["--html", "plan.txt"], ["plan.txt", ".html"]),
        (["--html", "no/folder/plan.html"], ["folder", "no"]),
        (["--rows", str(10**12)], ["chunks", "graph"]),
    ],
)
def test_what_cannot_be_planned_is_one_line(arguments, words):
    done = command("plan", "config.toml", *arguments)
    assert done.code == 2
    assert names(done.err, *words)
    assert done.err.startswith("error:")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--workers", 0], ["--workers", 5000], ["--price", -1], ["--stragglers", 9], ["--rows", 0]],
)
def test_numbers_out_of_range_are_bad_usage(arguments):
    done = command("plan", "config.toml", *arguments)
    assert done.code == 2
    assert names(done.err, arguments[0], str(arguments[1]))


@pytest.mark.parametrize("mode", ["batch", "online"])
def test_factorisations_are_planned_too(mode, tmp_path):
    np.save("positive.npy", np.ones((2000, 30), np.float32))
    (tmp_path / "config.toml").write_text(
        '[data]\nx = "positive.npy"\n'
        f'[model]\ntask = "factorization"\nchunks = 100\nn_components = 4\nmode = "{mode}"\n'
    )
    text = ok("--workers", 2)
    assert told(text, "network") == "30 - 4, solver nmf"
    kept = "31.25 kiB" if mode == "batch" else "0 B"  # codes, of float32
    assert f"3 generations of {kept} of state" in told(text, "disk")
    # The dictionary, 20 visits, the report; six sums and an update; online, three of both.
    assert told(text, "tasks") == f"{22 + (7 if mode == 'batch' else 6)} per iteration"


def test_a_plan_needs_a_config():
    done = command("plan")
    assert done.code == 2
    assert names(done.err, "CONFIG")
    done = command("plan", "none.toml")
    assert done.code == 2
    assert names(done.err, "none.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1GB/s", 1e9), ("1GiB", 2**30), ("8bit", 1), ("1Gbit", 1.25e8), ("10 Gbit/s", 1.25e9)],
)
def test_rates_are_bytes_or_bits(text, expected):
    assert rate(text, "--net") == expected


def test_bits_with_two_points_are_no_number():
    with pytest.raises(OptionError, match=naming("--net", "'1.2.3Gbit'")):
        rate("1.2.3Gbit", "--net")


def test_times_have_units_or_are_seconds():
    assert duration("1ms", "--task") == 1e-3
    assert duration("0.5", "--task") == 0.5
