"""The sandbox: a stand-in for Replicate's HTTP API that costs nothing.

It runs in a process of its own (`python -m jobs.sandbox`), keeps its own
state and imports nothing else of this project: Tunehouse knows it only by
its address, as it knows Replicate.
"""
