"""What an iteration will take, before it is paid for: memory, disk, traffic, tasks and seconds.

    machine.py     rates of a machine, and where they are kept
    calibrate.py   measure them
    structure.py   who waits for whom: the tasks of `dadmm.engine.graph`, without their data
    costs.py       how long each takes, and how large its result is, from counted operations
    simulate.py    a scheduler, workers and a network, event by event
    forecast.py    all of it for a number of workers, and where more of them stop helping
    subject.py     what a config is about
    report.py      in words and pictures

The solvers say what their visits compute (`dadmm.solvers.counts`); how fast that goes is measured.
"""
