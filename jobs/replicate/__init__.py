"""Replicate's wire: the only code that knows how Replicate speaks over HTTP.

`gateway` calls it, `predictions` reads what it says about a run, `inputs` writes what a run is given, `logs` reads
what a run prints. Nothing here knows Django.
"""
