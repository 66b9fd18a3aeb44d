"""Describe a run for people.

describe  facts in words and a table of numbers
outcome   compare predictions with the training targets
plot      draw the history
page      write all of it as one HTML file
"""
