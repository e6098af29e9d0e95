"""The benchmark behind `scripts/benchmark.py`: this project beside other libraries.

`rows` says what is measured and what must be reached, `jobs` who runs what for it, `peers` sets up
the other libraries, `running` runs everything in turn, `figures` makes numbers of what came out,
`report` a table of them. What is measured are the small programs in `programs/`. They import
nothing from here: others than this project's run in environments of their own.
"""
