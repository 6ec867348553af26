"""Experiments: systems x splits x seeds on one data set, from its frames to a table.

`schema` says what an experiment is, `plan` what has to be trained and scored for it, `one` does one of those jobs,
`queue` all of them, `collect` gathers the scores, `report` shows them, and `run` is the whole way.
"""
