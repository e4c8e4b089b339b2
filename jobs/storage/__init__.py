"""The S3-compatible storage endpoint: where trainers put results and read datasets.

Top to bottom: `urls`, `views` (who is it and what is asked), `s3` and `api` (the two ways to answer), `objects`, `multipart`,
`datasets` (what happens), `access`, `signatures`, `body`, `files`, `keys`, `checksums`, `errors`.
"""
