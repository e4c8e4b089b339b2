"""Spend limits and their top-ups by API."""
