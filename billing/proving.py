"""Proving a team's ledger: no line was touched, every hold adds up, the stored totals are the sums; and a file to prove it elsewhere."""

from dataclasses import dataclass

from django.http import HttpRequest, StreamingHttpResponse

from accounts import exports, streaming
from accounts.chain import Verification
from accounts.models import Team
from billing import ledger, totals
from billing.exports import LEDGER
from billing.ledger import Totals
from billing.totals import Difference


@dataclass(frozen=True)
class Proof:
    """What was found of one team. `unbalanced` names holds (by key) and what is wrong with their lines."""

    verification: Verification
    unbalanced: list[tuple[int, str]]
    differences: list[Difference]
    totals: Totals

    @property
    def valid(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """Each thing that is wrong, in a sentence."""
        return [
            *(f"line {line}: {reason}" for line, reason in self.verification.broken),
            *(f"hold {hold}: {reason}" for hold, reason in self.unbalanced),
            *map(str, self.differences),
        ]


def prove(team: Team) -> Proof:
    """Walk along the team's whole chain and add it up; writers go on meanwhile."""
    return Proof(
        verification=ledger.verify(team),
        unbalanced=ledger.unbalanced_holds(team),
        differences=totals.differences_of(team),
        totals=ledger.totals(team),
    )


def download(request: HttpRequest, team: Team, form: str) -> StreamingHttpResponse:
    """The whole ledger as a file (`form` is jsonl or csv) that is never in memory as a whole."""
    pieces = exports.write(ledger.records(team), form, LEDGER)
    return streaming.download(request, pieces, name=f"{team.slug}-ledger.{form}", content_type=exports.CONTENT_TYPES[form])
