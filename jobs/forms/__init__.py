"""The forms of the jobs pages, by subject."""
