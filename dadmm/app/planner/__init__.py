"""Forecast what an iteration needs before a run: memory, disk, traffic, tasks and seconds.

command      what `dadmm plan` calls: from a config to a plan
subject      what a config would train
forecast     an iteration on a number of workers, and where more workers stop helping
structure    the tasks of an iteration and what each waits for, without their data
costs        seconds and result size of each task, from counted operations
simulate     a scheduler, workers and a network, event by event
machine      rates of a machine, and the file that keeps them
calibrate    measure these rates
timing       how much is measured, and how calls are timed
loop_rates   measure loops, products and passes over memory
store_rates  measure writing, reading and deleting chunks
dask_rates   measure whole visits, and what Dask and the driver add
units        amounts as people write them
words        a plan as lines and tables
page         a plan as an HTML file

Solvers count the operations of their visits (`dadmm.solvers.counts`); their speed is measured.
"""
