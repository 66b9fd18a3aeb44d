"""What people start: command line, batch jobs, configs, reports, the planner."""
