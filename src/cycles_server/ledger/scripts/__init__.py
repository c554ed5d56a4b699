"""The ledger's scripts by name: a module for each file in lua/, with what that is asked and what
it answers.

Every module has

- ``NAME``, that of the file,
- ``Keys`` and ``Arguments``: its own KEYS and ARGV by the names of the script's first lines, in
  that order; the shared head (:mod:`head`) comes before them, lists behind them,
- ``read(answer)``: the answer by name. ``STALE`` and ``ERROR``, which every script may answer, are
  taken out before (``store/answers.py``).

What is stored as text stays bytes until somebody needs more of it; amounts are decimal texts.
"""
