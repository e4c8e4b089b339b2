"""The sandbox: a stand-in for Replicate's HTTP API, and on a port of its own for the Hugging Face Hub's, that costs nothing.

It runs in a process of its own (`python -m jobs.sandbox`), keeps its own
state and imports nothing else of this project: Tunehouse knows it only by
its addresses, as it knows Replicate and the Hub.
"""
