"""What the processes say while they are used, and misused."""


def test_no_secret_stands_in_what_the_processes_said_and_the_books_are_right(house):
    job_id = house.submit()
    prediction = house.assert_came_home(job_id)
    callback = prediction["webhook"].removeprefix(house.url)
    researcher = house.api.headers["Authorization"]

    forged = house.api.post(callback, json={"id": prediction["id"], "status": "failed"}, headers={"webhook-signature": "v1,AAAA"})
    keyless = house.api.post(callback.rpartition("=")[0], json={"id": prediction["id"]})
    nobody = house.api.get("/api/cloud/jobs", headers={"Authorization": researcher[:-1]})
    unsigned = house.api.get(f"/api/cloud/storage/outputs/{job_id}/README.md", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=x"})

    assert (forged.status_code, keyless.status_code, nobody.status_code) == (401, 404, 401)
    assert unsigned.status_code in (400, 403)
    assert house.job(job_id)["status"] == "completed"
    house.assert_no_secret_was_said()
    house.assert_books_are_right()
