"""Following a job's log over real HTTP, by the client that SimpleTuner's command line is."""


def test_a_log_is_followed_from_the_first_line_to_the_end_while_the_job_runs(house):
    job_id = house.submit_slow(tracker_run_name="followed")

    states, lines, ends = [], [], []
    with house.api.stream("GET", f"/api/cloud/jobs/{job_id}/logs/stream", timeout=60) as stream:
        words = dict(stream.headers)
        for line in stream.iter_lines():
            if line.startswith("data: ") and not ends:
                states += [house.job(job_id)["status"]] if not lines else []
                lines.append(line.removeprefix("data: "))
            elif line == "event: done":
                ends.append(line)

    house.assert_came_home(job_id)
    log = house.api.get(f"/api/cloud/jobs/{job_id}/logs").json()["logs"]
    assert (words["content-type"], words["x-accel-buffering"]) == ("text/event-stream", "no")
    assert states == ["running"]
    assert lines == log.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def test_a_cancelled_job_is_retried_and_comes_home(house):
    house.rule(queue_seconds=1_000_000)
    first = house.submit(tracker_run_name="again")
    house.wait_for(first, "queued")
    assert house.api.post(f"/api/cloud/jobs/{first}/cancel").status_code == 200
    house.wait_for(first, "cancelled")
    house.lift_rules()

    answer = house.api.post(f"/api/cloud/jobs/{first}/retry")

    assert (answer.status_code, answer.json()["retried_from"]) == (200, first)
    house.assert_came_home(answer.json()["job_id"])
