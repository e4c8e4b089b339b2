"""Eight dispatchers, two thousand jobs of twenty teams, and runs that end meanwhile: the queue keeps every promise."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction
from django.utils import timezone

from jobs.models import Job, JobEvent, QueueSettings
from jobs.states import State
from tests.jobs.crowded import teams_of, wait
from tests.jobs.dispatchers import Dispatchers
from tests.thoroughness import FULL
from tests.watching import Watching

pytestmark = pytest.mark.django_db(transaction=True)

PROCESSES, TEAMS, PEOPLE, JOBS = 8, 20, 4, 2000
PLATFORM, TEAM, PERSON, NARROW = 45, 4, 2, 1
# How many go before the test is over.
ENOUGH = JOBS if FULL else 500
ENDS_A_ROUND = 15


def too_many(narrow):
    """Who has more at the provider than a limit allows, counted in one question."""
    rows = list(Job.objects.launched().values_list("team_id", "submitted_by_id"))
    return beyond_limits(Counter(team for team, _ in rows), Counter(rows), narrow=narrow)


def beyond_limits(teams, people, *, narrow):
    """What of these counts no limit allows."""
    full = [("platform", teams.total())] if teams.total() > PLATFORM else []
    full += [(team, count) for team, count in teams.items() if count > limit_of(team, narrow)]
    return full + [(person, count) for person, count in people.items() if count > PERSON]


def limit_of(team, narrow):
    return NARROW if team == narrow else TEAM


class Replay:
    """Goes through the log of moves in its order, which for dispatches is that in which they were decided."""

    def __init__(self, jobs, narrow):
        self.narrow = narrow
        self.teams, self.people, self.waiting = Counter(), Counter(), Counter(jobs.values())
        self.jobs, self.spread, self.most = jobs, [], 0

    def follow(self, events, *, until):
        """Of the moves up to `until` it is known what the dispatcher saw: a run ended either before it looked, or after it left."""
        for pk, job, state in events:
            team, person = self.jobs[job]
            if state == State.UPLOADING:
                if pk <= until:
                    self.judge(team)
                self.move(team, person, 1)
                self.waiting[team, person] -= 1
                assert beyond_limits(self.teams, self.people, narrow=self.narrow) == []
            else:
                self.move(team, person, -1)
        return self

    def move(self, team, person, by):
        self.teams[team] += by
        self.people[team, person] += by
        self.most = max(self.most, self.teams.total())

    def judge(self, chosen):
        """By how many the team that goes is ahead then of the one that has the fewest running, of those that have a job to send."""
        fewest = min(self.teams[team] for team in self.hungry())
        self.spread.append(self.teams[chosen] + 1 - fewest)

    def hungry(self):
        """The teams that have a job to send and room for it."""
        having = {team for (team, person), count in self.waiting.items() if count and self.people[team, person] < PERSON}
        return {team for team in having if self.teams[team] < limit_of(team, self.narrow)}


def end_some(chance, *, at_turnstile):
    """Runs end, one after another, each with a commit of its own; at the turnstile only while no dispatcher is at work."""
    try:
        running = list(Job.objects.launched())
        for job in chance.sample(running, min(ENDS_A_ROUND, len(running))):
            with transaction.atomic():
                if at_turnstile:
                    QueueSettings.objects.select_for_update(no_key=True).get(team=None, provider="")
                job.move_to(State.COMPLETED, cause="poll", ended_at=timezone.now())
    finally:
        connection.close()


def test_eight_dispatchers_take_no_job_twice_pass_no_limit_and_share_fairly():
    chance = random.Random(7)
    teams = teams_of(TEAMS, people=PEOPLE)
    narrow = teams[0][0].pk
    QueueSettings.objects.create(team=None, max_concurrent=PLATFORM, team_max_concurrent=TEAM, user_max_concurrent=PERSON)
    QueueSettings.objects.create(team=teams[0][0], own_team_max=NARROW)
    # Half of the teams have three times as many as the other half.
    wait(teams, [150 if number % 2 else 50 for number in range(TEAMS)], now=timezone.now(), chance=chance)
    jobs = {
        pk: (team, person) for pk, team, person in Job.objects.filter(state=State.PENDING).values_list("pk", "team_id", "submitted_by_id")
    }
    taken, known = [], 0

    database = connection.settings_dict["NAME"]
    with Dispatchers(PROCESSES, database) as dispatchers, Watching(partial(too_many, narrow)) as watching, ThreadPoolExecutor(1) as beside:
        while len(taken) < ENOUGH:
            is_known = len(taken) < ENOUGH // 2
            dispatchers.start()
            ending = beside.submit(end_some, chance, at_turnstile=is_known)
            taken += [pk for gone in dispatchers.finish() for pk in gone]
            ending.result()  # where no run can end no place comes free, and this would go on for ever
            known = JobEvent.objects.latest("pk").pk if is_known else known

    events = JobEvent.objects.filter(job__in=jobs).order_by("pk").values_list("pk", "job_id", "state")
    replay = Replay(jobs, narrow).follow(events, until=known)
    dispatched = Counter(events.filter(cause="dispatch").values_list("job_id", flat=True))
    of_team = Counter(jobs[pk][0] for pk in taken)
    assert len(jobs) == JOBS
    assert (len(taken), len(set(taken)), set(dispatched.values())) == (len(dispatched), len(dispatched), {1})
    assert (watching.seen, watching.looks > 20) == (set(), True)
    assert (len(replay.spread) >= ENOUGH // 2, max(replay.spread)) == (True, 1)
    # Places were scarce, and every team had its share of them.
    assert (replay.most, len(taken) >= ENOUGH) == (PLATFORM, True)
    wide = [of_team[team.pk] for team, _ in teams[1:]]
    assert min(of_team[team.pk] for team, _ in teams) > 0
    # By chance the runs of some end sooner than those of others; whether the turns were fair is judged above.
    assert FULL or max(wide) <= 3 * min(wide)
