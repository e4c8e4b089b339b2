"""The demonstration: teams, a dataset that is drawn here, and one job all the way to its delivered result."""
