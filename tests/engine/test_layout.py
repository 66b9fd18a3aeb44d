"""The tasks of an iteration: what each is told to read ahead."""

import pytest

from dadmm.engine.layout import TaskLayout
from dadmm.engine.plan import Plan, Step
from dadmm.engine.tasks import visit
from support.block import block, problem


class Recorded(TaskLayout):
    """Tasks that do nothing: what visits are told is kept."""

    def __init__(self, plan):
        super().__init__(plan)
        self.seen = {}

    def add(self, function, prefix, *ident, spread=False):
        def call(*args):
            if function is visit:
                _, _, chunk, _, then, *_ = args
                self.seen[chunk] = then

        return call


@pytest.mark.parametrize("order", ["stored", "scattered"])
def test_a_visit_reads_ahead_the_chunk_in_its_place_of_the_next_round(order):
    p = problem(n=70)
    solver = block(agents=3, chunk_order=order)
    rounds = [each.chunks for each in solver.passes(p, 7).iteration]
    assert [len(each) for each in rounds] == [3, 3, 1]
    layout = Recorded(Plan(None, solver, p, (10,) * 7, 0))
    layout.iteration(Step(0, 0, 1))
    (a, b, c), (d, e, f), (g,) = rounds
    assert layout.seen == {a: d, b: e, c: f, d: g, e: None, f: None, g: None}
