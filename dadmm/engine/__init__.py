"""Run a solver over chunks: plan, tasks, graph, loop, recovery, memory."""
