"""What agents should do where rows may not move: simulated in one process.

    DADMM_DATA=... python benchmarks/order_of_rows.py [--problems class,pairs,drift]
        [--agents 2,all] [--passes 4,12] [--seeds 0,1,2] [--methods "average;textbook"]

Problems, each cut into chunks along its rows:

class    MNIST sorted by class: ten chunks of one digit each.
pairs    MNIST sorted by pairs of classes: ten chunks of two digits each, two chunks a pair.
drift    A regression of 40 000 rows and 20 features: the inputs' distribution and the target's
         level drift along the rows; eight chunks.
mnist, smooth    The same rows of MNIST and of the regression in random order.

Methods, all on the kernels of Block-ADMM with one block (so Adam inside, one cycle), for a round
in which the chunks S are visited, with ``a_c = rows_c / rows_S`` and the consensus w.  A visit
trains on all rows of its chunk; with "quarter" and "sixteenth" on such a share of them, with
"batch" on one mini-batch, and a pass has as many more rounds.

average     w = sum_c a_c w_c.
small chunks    The same, each chunk being cut into 16 first.
scattered   The same with chunk_order="scattered".
running     consensus ADMM as in BADM: pi_c += sigma (w_c - w) with the old w, and w is the mean
            of w_c + pi_c / sigma over all chunks.
textbook    w = sum_c a_c w_c, then pi_c += sigma (w_c - w) with the new w; visits minimise
            F_c(v) + <pi_c, v> + sigma/2 |v - w|^2.
slot        The same with a multiplier for each agent instead of each chunk.
outside     textbook, but the multiplier bypasses Adam, like decoupled weight decay:
            v -= rate (pi_c + sigma (v - w)).
scaffold    Control variates from displacements: a step ends with v += rate (e - e_c), where e_c
            is the chunk's own displacement over the sum of its rates and e their mean over all
            chunks.
sisa        SISA (arXiv 2502.10784): one gradient per round, no local steps.

For each problem and number of agents every method is tuned on a tenth of the training rows held
out, at the first of the passes: first the learning rate at the middle sigma, then sigma.  Then
come the seeds on all rows.  It prints medians of the score on the test set, and the rounds of a
pass.  Nothing is timed, so it may run beside anything; all of it takes some hours of one core.
"""

import argparse
import os
import sys
from dataclasses import dataclass, replace
from statistics import median

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np
from rich.console import Console
from rich.table import Table

import dadmm
from dadmm.datasets import load_dataset
from dadmm.networks.architecture import Architecture
from dadmm.numerics.losses import get_loss
from dadmm.solvers.block.learning_rate import rate as schedule
from dadmm.solvers.block.minibatch import Span, steps
from dadmm.solvers.block.rounds import rounds
from dadmm.solvers.problem import Problem

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
out = Console(soft_wrap=True, highlight=False, width=120)


@dataclass(frozen=True)
class Method:
    """What the agents do, with the options that are tried."""

    kind: str
    pieces: int = 1  # of a chunk, one for each visit; 0: mini-batches
    sigmas: tuple[float, ...] = ()
    rates: tuple[float, ...] = RATES
    rate: float = 4e-3
    sigma: float = 0.0
    cut: int = 1  # smaller chunks from each chunk, before anything else
    order: str = "stored"


PENALTIES = (0.01, 0.1, 1.0)
SHARES = (0.25, 0.5, 1.0)
METHODS = {
    "average": Method("average"),
    "average, quarter": Method("average", 4),
    "average, sixteenth": Method("average", 16, rates=(*RATES, 1.6e-2)),
    "average, batch": Method("average", 0, rates=(*RATES, 1.6e-2)),
    "small chunks": Method("average", cut=16, rates=(*RATES, 1.6e-2)),
    "small chunks, scattered": Method("average", cut=16, order="scattered", rates=(*RATES, 1.6e-2)),
    "chunks, scattered": Method("average", order="scattered"),
    "running": Method("running", 1, PENALTIES),
    "textbook": Method("textbook", 1, PENALTIES),
    "textbook, quarter": Method("textbook", 4, PENALTIES),
    "slot": Method("slot", 1, PENALTIES),
    "outside": Method("outside", 1, (0.5, 2.0, 8.0)),
    "scaffold": Method("scaffold", 1, SHARES),
    "scaffold, quarter": Method("scaffold", 4, SHARES),
    "scaffold, sixteenth": Method("scaffold", 16, SHARES),
    "sisa": Method("sisa", 0, (0.01, 0.1, 1.0)),
}


@dataclass(frozen=True)
class Data:
    """Chunks of (x, y), a test set, and what is trained on them."""

    chunks: list[tuple[np.ndarray, np.ndarray]]
    x_test: np.ndarray
    y_test: np.ndarray
    problem: Problem


# ---------------------------------------------------------------------------------- the problems


def mnist(order, held_out, seed):
    """Return MNIST in chunks; the test set is a tenth of the training rows if held out."""
    x, y = load_dataset("mnist")
    x, y = x.astype("f4"), y.astype(int)
    train, test = np.arange(60000), np.arange(60000, 70000)
    rng = np.random.default_rng((seed, 1))
    if held_out:
        picked = np.random.default_rng(0).permutation(60000)
        train, test = picked[6000:], picked[:6000]
    train = rng.permutation(train)
    centre, scale = x[train].mean(0), x[train].std()
    x -= centre
    x /= scale
    groups = {
        "class": [train[y[train] == digit] for digit in range(10)],
        "pairs": [
            half for pair in range(5) for half in np.array_split(train[y[train] // 2 == pair], 2)
        ],
        "mnist": np.array_split(train, 10),
    }[order]
    arch = Architecture.build(784, (256, 256, 256), 10)
    problem = Problem(arch, "cross_entropy", 0.0, len(train), 10)
    encode = get_loss("cross_entropy").encode
    chunks = [(x[rows], encode(y[rows], 10, "f4")) for rows in groups]
    return Data(chunks, x[test], y[test], problem)


def regression(order, held_out, seed, rows=48000, features=20, chunks=8):
    """Return a regression whose inputs and level drift along its rows; a sixth of them test."""
    rng = np.random.default_rng(1)
    at = np.linspace(0, 1, rows)[:, None]
    waves = np.sin(2 * np.pi * (at * rng.uniform(0.25, 1, features) + rng.uniform(0, 1, features)))
    x = rng.standard_normal((rows, features)) + 2 * waves
    teacher = rng.standard_normal((features, 8)) / features**0.5
    y = np.tanh(x @ teacher) @ rng.standard_normal((8, 1)) + 4 * at
    y += 0.3 * rng.standard_normal((rows, 1))
    x, y = (((v - v.mean(0)) / v.std(0)).astype("f4") for v in (x, y))
    picked = np.random.default_rng(0).permutation(rows)
    test, train = picked[: rows // 6], picked[rows // 6 :]
    if held_out:
        test, train = train[: len(train) // 10], train[len(train) // 10 :]
    train = np.random.default_rng((seed, 1)).permutation(train)
    if order == "drift":
        train.sort()
    arch = Architecture.build(features, (64, 64, 64), 1)
    problem = Problem(arch, "squared", 0.0, len(train), 0, float(len(train)))
    pieces = np.array_split(train, chunks)
    return Data([(x[rows], y[rows]) for rows in pieces], x[test], y[test], problem)


def drawn(name, held_out, seed):
    return (regression if name in ("drift", "smooth") else mnist)(name, held_out, seed)


# ------------------------------------------------------------------------------------- the agents


def recut(data, cut):
    """Return the data with each chunk cut into smaller ones."""
    pairs = [[np.array_split(each, cut) for each in chunk] for chunk in data.chunks]
    return replace(data, chunks=[part for x, y in pairs for part in zip(x, y, strict=True)])


class Agents:
    """Copies of a network on the chunks of some data, and their consensus."""

    def __init__(self, method, data, agents, passes, seed):
        data = recut(data, method.cut)
        self.method, self.data, self.seed = method, data, seed
        self.solver = dadmm.BlockADMM(agents=agents, learning_rate=method.rate)
        if method.kind in ("textbook", "slot", "running"):
            self.solver = replace(self.solver, sigma=method.sigma)
        self.size = self.solver.batch_rows(data.problem)
        self.weights = self.solver.initial(data.problem, seed)
        self.criterion = get_loss(data.problem.loss)
        self.rows = [len(y) for _, y in data.chunks]
        self.pieces = method.pieces or -(-max(self.rows) // self.size)
        self.groups = rounds(len(self.rows), agents, method.order)
        self.rounds = self.pieces * len(self.groups)
        self.total = passes * self.rounds
        self.done = 0
        zero = np.zeros_like(self.weights["theta_1"])
        self.kept = [zero.copy() for _ in self.rows]  # multipliers or displacements
        self.mean = zero.copy()  # of the displacements
        self.sent = [self.weights["theta_1"].copy() for _ in self.rows]
        self.squares = [zero.copy() for _ in self.rows]  # SISA's second moments

    def go(self, passes):
        for k in range(passes):
            orders = [
                np.random.default_rng((self.seed, k, c)).permutation(rows)
                for c, rows in enumerate(self.rows)
            ]
            pieces = [np.array_split(order, self.pieces) for order in orders]
            for j in range(self.pieces):
                for group in self.groups:
                    self.round({c: pieces[c][j] for c in group if len(pieces[c][j])})
                    self.done += 1

    def round(self, picked):
        if self.method.kind == "sisa":
            return self.sisa(picked)
        copies = {c: self.visit(c, slot, picked[c]) for slot, c in enumerate(picked)}
        whole = sum(map(len, picked.values()))
        share = {c: len(rows) / whole for c, rows in picked.items()}
        new = {
            name: sum(share[c] * copies[c][name] for c in copies).astype("f4")
            for name in ("theta_1", "m_1", "v_1")
        }
        new["count_1"] = max(copy["count_1"] for copy in copies.values())
        self.meet(copies, new)
        self.weights = new

    def meet(self, copies, new):
        """Update what the chunks remember, given the copies and their average."""
        kind, sigma, old = self.method.kind, self.method.sigma, self.weights["theta_1"]
        all_rows = sum(self.rows)
        if kind == "running":
            new["theta_1"] = old.copy()
        for slot, (c, copy) in enumerate(copies.items()):
            own, theta = self.kept[slot if kind == "slot" else c], copy["theta_1"]
            if kind in ("textbook", "slot", "outside"):
                own += sigma * (theta - new["theta_1"])
            elif kind == "running":
                own += sigma * (theta - old)
                sent = theta + own / sigma
                new["theta_1"] += self.rows[c] / all_rows * (sent - self.sent[c])
                self.sent[c] = sent
            elif kind == "scaffold":
                went = (theta - old) / copy["length"] - sigma * (self.mean - own)
                own[...] = went
        if kind == "scaffold":
            self.mean = sum(n / all_rows * own for n, own in zip(self.rows, self.kept, strict=True))
            self.mean = self.mean.astype("f4")

    def visit(self, c, slot, rows):
        """Train a copy on some rows of a chunk."""
        kind, method = self.method.kind, self.method
        own = self.kept[slot if kind == "slot" else c]
        inside = own if kind in ("textbook", "slot", "running") else None
        span = Span(self.solver, self.data.problem, self.weights, 1, inside)
        drift = method.sigma * (self.mean - own) if kind == "scaffold" else None
        x, y = self.data.chunks[c]
        batches = -(-len(rows) // self.size)
        length = 0.0
        for i in range(batches):
            picked = rows[i * self.size : (i + 1) * self.size]
            done = (self.done + i / batches) / self.total
            rate = self.solver.learning_rate * schedule("one_cycle", done)
            g = self.criterion.gradient(span.forward(x[picked]), y[picked])
            g = (g / len(picked)).astype("f4")
            if kind == "outside":
                drift = -(own + method.sigma * (span.theta - span.anchor))
            span.learn(g, rate, self.solver.momentum_at(done), pull=False)
            if drift is not None:
                span.theta += np.float32(rate) * drift
            length += rate
        found = {"theta_1": span.theta, "m_1": span.m, "v_1": span.v}
        found = {name: array.copy() for name, array in found.items()}
        return {**found, "count_1": span.count, "length": length}

    def sisa(self, picked):
        """Take one round of SISA, with the formulas of its authors' code."""
        b, t = 0.999, self.done + 1
        pace = max(schedule("one_cycle", self.done / self.total), 1e-3)
        sigma, rho = self.method.sigma / pace, 1 / (self.method.rate * pace)
        w = self.weights["theta_1"]
        whole, new = sum(map(len, picked.values())), np.zeros_like(w)
        for c, rows in picked.items():
            x, y = self.data.chunks[c]
            span = Span(self.solver, self.data.problem, self.weights, 1)
            g = self.criterion.gradient(span.forward(x[rows]), y[rows]) / len(rows)
            span.learn(g.astype("f4"), 0.0, 0.0, pull=False)
            pi, square = self.kept[c], self.squares[c]
            pulled = span.gradient + pi
            square += (1 - b) * (pulled**2 - square)
            w_c = w - pulled / (sigma + rho * (np.sqrt(square / (1 - b**t)) + 1e-8))
            pi += sigma * (w_c - w)
            new += len(rows) / whole * (w_c + pi / sigma)
        self.weights = {**self.weights, "theta_1": new.astype("f4")}

    def score(self):
        """Return accuracy or R^2 on the test set."""
        problem = self.data.problem
        params = self.solver.export(problem, 1, self.weights)
        found = []
        for x in np.array_split(self.data.x_test, -(-len(self.data.x_test) // 500)):
            *_, last = steps(self.solver, problem, params, x)
            found.append(last.copy())
        guess, y = np.concatenate(found), self.data.y_test
        if problem.classes:
            return float((guess.argmax(1) == y).mean())
        return float(1 - ((guess - y) ** 2).mean() / y.var())


def score(method, data, agents, passes, seed):
    with np.errstate(all="ignore"):
        trained = Agents(method, data, agents, passes, seed)
        trained.go(passes)
        found = trained.score()
    return found if np.isfinite(found) else -1.0


def tuned(method, data, agents, passes):
    """Return the method with the learning rate and the sigma that did best on rows held out."""
    if method.sigmas:
        method = replace(method, sigma=method.sigmas[len(method.sigmas) // 2])
    seen = {}

    def tries(options):
        for option in options:
            if option not in seen:
                seen[option] = score(option, data, agents, passes, 100)
        return max(seen, key=seen.get)

    method = tries([replace(method, rate=rate) for rate in method.rates])
    method = tries([replace(method, sigma=sigma) for sigma in method.sigmas])
    for option, found in seen.items():
        say(f"    rate {option.rate:g} sigma {option.sigma:g}: {found:.4f}")
    return method


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--problems", default="class,pairs,drift,mnist,smooth")
    parser.add_argument("--agents", default="2,all")
    parser.add_argument("--passes", default="4,12")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default="", help="separated by ; (all)")
    options = parser.parse_args()
    passes = [int(n) for n in options.passes.split(",")]
    seeds = [int(n) for n in options.seeds.split(",")]
    names = options.methods.split(";") if options.methods else list(METHODS)
    for problem in options.problems.split(","):
        held = drawn(problem, True, 100)
        chosen = {}
        for count in options.agents.split(","):
            agents = len(held.chunks) if count == "all" else int(count)
            for name in names:
                method = METHODS[name]
                unfit = agents < len(held.chunks) and method.kind == "sisa"
                if unfit or (agents == len(held.chunks) and method.kind == "slot"):
                    continue  # SISA needs all chunks; slots are then the chunks
                say(f"{problem}, {agents} agents, {name}")
                chosen[agents, name] = tuned(method, held, agents, passes[0])
        del held
        found = {}
        for seed in seeds:
            data = drawn(problem, False, seed)
            for (agents, name), method in chosen.items():
                for n in passes:
                    value = score(method, data, agents, n, seed)
                    found.setdefault((agents, name, n), []).append(value)
                    say(f"{problem} seed {seed}, {agents} agents, {name}, {n} passes: {value:.4f}")
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), title=problem)
        for head in ("agents", "method", "rounds a pass", "rate", "sigma"):
            table.add_column(head, justify="left" if head == "method" else "right")
        for n in passes:
            table.add_column(f"{n} passes", justify="right")
        for (agents, name), method in chosen.items():
            rounds = Agents(method, data, agents, 1, 0).rounds
            scores = [f"{median(found[agents, name, n]):.3f}" for n in passes]
            sigma = f"{method.sigma:g}" if method.sigmas else ""
            table.add_row(str(agents), name, str(rounds), f"{method.rate:g}", sigma, *scores)
        out.print(table)


if __name__ == "__main__":
    main()
