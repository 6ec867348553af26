"""Experiments: systems x splits x seeds on one data set, from its frames to a table.

`schema` says what an experiment is, `trainings` what has to be trained and scored for it, `cell` does one of those
jobs, `queue` all of them, `collect` gathers the scores, `comparison_page` shows them, and `runner` is the whole way.
"""
