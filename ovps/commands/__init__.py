"""Commands in groups, `ovps GROUP COMMAND`, a module for each; those without a group are in `ovps.cli`.

`declare` is how a command is made of its options and a function, `shown` how a summary is printed.
"""
