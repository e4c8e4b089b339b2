"""The pages of datasets."""

from accounts.roles import Right
from tests.matrix.routes.api_datasets import one_picture
from tests.matrix.table import Route, get, page

ROUTES: list[Route] = [
    get("/t/<team>/datasets/", Right.READ),
    *page("/t/<team>/datasets/new/", Right.DATASETS, form=one_picture),
    get("/t/<team>/datasets/<dataset_id>/", Right.READ),
    *page("/t/<team>/datasets/<dataset_id>/add/", Right.DATASETS, form=one_picture),
    get("/t/<team>/datasets/pictures/<file_id>.jpg", Right.READ),
]
