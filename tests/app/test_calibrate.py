"""Rates of a machine: measured, kept, looked up, and not believed if they cannot be."""

import copy
import json
import math
from dataclasses import asdict

import pytest

from dadmm.app.planner.calibrate import calibrate
from dadmm.app.planner.machine import VERSION, interpolate, load, parse, place, save, typical
from dadmm.app.planner.timing import Effort, timed
from dadmm.errors import InputError
from dadmm.solvers.counts import LOOPS
from support.messages import names, naming

MACHINE = typical()
SMALL = Effort(
    each=0.002,
    rows=(32,),
    widths=(8, 32),
    wide=(16,),
    visits=(8,),
    visit_rows=64,
    visit_iterations=3,
    chunk=2**16,
    chunks=2,
    generations=4,
    pause=0.0,
    tasks=20,
    iterations=3,
)


def table():
    """Return what the file of a machine holds."""
    return json.loads(json.dumps({"version": VERSION, **asdict(MACHINE)}))


def test_a_machine_is_kept_and_found_again(tmp_path):
    path = tmp_path / "new" / "dadmm" / "machine.json"
    assert load(path) is None
    save(MACHINE, path)
    assert load(path) == MACHINE


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "dadmm").write_text("in the way")
    with pytest.raises(InputError, match=naming("machine.json", "written")):
        save(MACHINE, tmp_path / "dadmm" / "machine.json")


def test_it_is_kept_in_the_users_cache(tmp_path):
    name = "dadmm/machine.json"
    assert place({"XDG_CACHE_HOME": str(tmp_path), "HOME": "/home/a"}) == tmp_path / name
    for unset in ({}, {"XDG_CACHE_HOME": ""}, {"XDG_CACHE_HOME": "relative"}):
        assert str(place({"HOME": "/home/a", **unset})) == f"/home/a/.cache/{name}"


def changed(*path, to=None, drop=False):
    found = copy.deepcopy(table())
    at = found
    for key in path[:-1]:
        at = at[key]
    if drop:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return json.dumps(found)


WRONG = {
    "no JSON": ("{", ["JSON"]),
    "not text": (b"\xff\xfe", []),
    "nested": ("[" * 100_000, ["JSON"]),
    "a list": ("[]", ["version"]),
    "another version": (changed("version", to=99), ["version"]),
    "a key too few": (changed("net", drop=True), ["'net'"]),
    "a key too many": (changed("code", to="x"), ["'code'"]),
    "cores as text": (changed("cores", to="2"), ["cores"]),
    "no cores": (changed("cores", to=0), ["cores"]),
    "true cores": (changed("cores", to=True), ["cores"]),
    "a long name": (changed("made", to="x" * 999), ["made"]),
    "no rate": (changed("net", to=None), ["net"]),
    "true": (changed("net", to=True), ["net"]),
    "nothing a second": (changed("net", to=0), ["net"]),
    "NaN": (changed("net", to=math.nan), ["net"]),
    "infinity": (changed("task", to=math.inf), ["task"]),
    "negative": (changed("alone", "memory", to=-1.0), ["alone.memory"]),
    "huge": (changed("alone", "memory", to=10**400), ["alone.memory"]),
    "rates as a list": (changed("alone", to=[]), ["alone"]),
    "no products": (changed("alone", "products", to={}), ["alone.products"]),
    "a size": (changed("alone", "wide", "-5", to=1e9), ["alone.wide", "'-5'"]),
    "size 0": (changed("alone", "wide", "0", to=1e9), ["alone.wide", "0"]),
    "a long size": (changed("alone", "wide", "9" * 5000, to=1e9), ["alone.wide"]),
    "empty": (changed("together", "wide", to={}), ["together.wide"]),
    "a loop": (changed("alone", "loops", "pass", drop=True), ["alone.loops"]),
    "a slow loop": (changed("alone", "loops", "pass", to=10.0), ["alone.loops.pass"]),
    "a solver": (changed("alone", "visits", "other", to={"8": 1.0}), ["'other'"]),
    "a ratio": (changed("alone", "visits", "block", to={"8": 1e9}), ["visits.block.8"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_none_is_refused_in_one_line(name, tmp_path):
    content, why = WRONG[name]
    path = tmp_path / "machine.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        load(path)
    assert names(str(caught.value), str(path), *why, "dadmm plan --calibrate")
    assert "\n" not in str(caught.value)


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "machine.json"
    path.write_text(" " * 2**21)
    with pytest.raises(InputError, match=naming(str(path), "large")):
        load(path)
    with pytest.raises(InputError, match=naming(str(tmp_path), "read")):
        load(tmp_path)


def test_what_was_parsed_is_what_was_written():
    assert parse(table()) == MACHINE


# -------------------------------------------------------------------------------------- looking up


def test_rates_between_two_sizes_lie_between_them():
    rates = {10: 1.0, 1000: 100.0}
    assert interpolate(rates, 100) == pytest.approx(10.0)
    assert interpolate(rates, 1) == 1.0
    assert interpolate(rates, 10**6) == 100.0


def test_a_product_is_as_fast_as_a_square_one_that_moves_as_much():
    rates = MACHINE.alone
    wide, thin = rates.product(512, 512, 512), rates.product(512, 512, 8)
    assert thin < wide
    assert rates.product(8, 512, 512) == rates.product(512, 8, 512) == thin
    assert rates.product(4096, 32, 32) == pytest.approx(rates.products[4096][32])


def test_rates_of_some_cores_lie_between_those_of_one_and_of_all():
    cold = [MACHINE.rates(busy).disk_cold for busy in (1, 2, 3)]
    assert cold == [MACHINE.alone.disk_cold, MACHINE.together.disk_cold, MACHINE.together.disk_cold]
    four = parse({**table(), "cores": 4})
    one, some, all_ = (four.rates(busy).disk_cold for busy in (1, 2, 4))
    assert all_ < some < one


# --------------------------------------------------------------------------------------- measuring


@pytest.mark.processes
def test_this_machine_is_measured(tmp_path):
    found = calibrate(tmp_path, SMALL)
    assert parse(json.loads(json.dumps({"version": VERSION, **asdict(found)}))) == found
    assert set(found.alone.loops) == set(LOOPS)
    assert found.alone.products.keys() == {32}
    assert found.alone.visits.keys() == {"block", "nmf", "relaxed"}
    assert not list(tmp_path.iterdir())


def test_the_median_call_is_what_is_told():
    calls = []
    assert 0 < timed(lambda: calls.append(1), 0.001) < 1e-3
    assert len(calls) >= 4
