"""Where results go besides our own storage: the team's bucket and the Hugging Face Hub. Nobody else speaks to them.

`bucket.Bucket` and `hub.Hub` show the same thing, a `shelf.Shelf`: the files that lie there, and their bytes.
"""
