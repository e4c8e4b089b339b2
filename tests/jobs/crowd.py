"""Processes that submit by HTTP all at once."""

import sys
from multiprocessing.connection import Connection
from typing import Any

from tests.jobs import many

SECONDS = 3940  # with the minute that is added, 4000 s
# Nobody is there to be called: a submission calls nobody.
NOBODY = "http://127.0.0.1:9"

Answers = list[tuple[int, str]]


class Crowd(many.Many):
    program = "tests.jobs.crowd"

    def submit(self, key: str, *, times: int, config: str) -> Answers:
        """Submit so many jobs, shared out among all; the status of each answer, with the code of a 402 or what else was said."""
        self.tell({"key": key, "times": times, "config": config})
        return [(status, said) for answers in self.hear() for status, said in answers]


def submit_when_told(line: Connection) -> None:
    """Be one of them: submit what is asked for, until nothing comes any more."""
    from django.test import Client

    while asked := line.recv():
        body = {"config_name_to_load": asked["config"], "max_seconds": SECONDS}
        answers: Answers = []
        for _ in range(asked["times"]):
            client = Client(raise_request_exception=False, SERVER_NAME="127.0.0.1")
            headers = {"Authorization": f"Bearer {asked['key']}"}
            answer = client.post("/api/cloud/jobs/submit", body, content_type="application/json", headers=headers)
            said = answer.json()
            answers.append((answer.status_code, said.get("code" if answer.status_code == 402 else "detail", "")))
        line.send(answers)


def shares(asked: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """The same number of submissions for each, and one more for the first of them where that does not come out even."""
    return [{**asked, "times": asked["times"] // size + (number < asked["times"] % size)} for number in range(size)]


def main(size: int) -> None:
    many.load(REPLICATE_BASE_URL=NOBODY, TUNEHOUSE_PUBLIC_URL=NOBODY)
    from django.urls import get_resolver

    get_resolver().url_patterns  # noqa: B018 - loaded once for all
    many.lead(size, submit_when_told, shares=shares)


if __name__ == "__main__":
    main(int(sys.argv[1]))
