"""The programs that people start: command line, batch jobs, reports, the planner.

cli       the command line
jobs      batch jobs, which log JSON lines
demo      the demo on digits
fit       train as a config says, and report in the terminal
build     make estimators from configs
config    read and check config files
schema    describe every key of a config
scores    score predictions
process   exit codes, SIGTERM and warnings
terminal  write to the terminal
report/   describe a run: in words, as a plot, as an HTML page
planner/  forecast what a run needs
"""
