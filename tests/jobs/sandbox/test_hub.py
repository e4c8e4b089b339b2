import functools
import hashlib
import json
import os
import signal
import time

import httpx
import pytest

from jobs.sandbox import accounts, repositories

from . import hub_user, servers

READ_ONLY = "You have read access but not the required permissions for this operation"


@pytest.fixture(scope="session")
def hub_client(shared_sandbox, tmp_path_factory):
    client = hub_user.HubUser(shared_sandbox.hub_url, tmp_path_factory.mktemp("hub-client"))
    yield client
    client.stop()


@pytest.fixture
def open_token(account):
    """Make tokens for the shared sandbox's Hub, for `account` or another one."""

    def make(name=account.name, role="write"):
        token = f"hf_{name}{role}".ljust(37, "0")
        assert account.sandbox.control("tokens", token=token, account=name, role=role).status_code == 201
        return token

    return make


@pytest.fixture
def open_user(hub_client, open_token):
    """Make users with the real client; what they are asked is evaluated."""
    return lambda *whose, **kind: functools.partial(hub_client.ask, open_token(*whose, **kind))


@pytest.fixture
def user(open_user):
    return open_user()


@pytest.fixture
def http(account, open_token):
    """A plain client of the Hub, for what huggingface_hub does not do."""
    headers = {"Authorization": f"Bearer {open_token()}"}
    with httpx.Client(base_url=account.sandbox.hub_url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture
def folder(tmp_path):
    """A folder as a training run leaves it: small texts, a picture, large weights."""
    folder = tmp_path / "output"
    (folder / "images").mkdir(parents=True)
    (folder / "README.md").write_text("---\ntags:\n- lora\n---\n# ñ\n")
    (folder / "config.json").write_text("{}")
    (folder / "empty.txt").write_text("")
    (folder / "images/sample one.jpg").write_bytes(servers.picture())
    with (folder / "weights.safetensors").open("wb") as weights:
        for _ in range(60):
            weights.write(os.urandom(10**6))
    return folder


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "b.safetensors").write_bytes(b"b" * 3_000_000)
    return folder


def hashes(folder) -> dict:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hub_user.sha256(path) for path in files}


def stored(sandbox, repo: str) -> dict:
    """What the Hub holds of a repository, as the control channel says, without what the Hub puts there itself."""
    found = next(each for each in sandbox.control("hub").json() if each["repo"] == repo)
    return {file["path"]: file["sha256"] for file in found["files"] if file["path"] != ".gitattributes"}


def scratch(sandbox) -> list:
    return list((sandbox.folder / "scratch").glob("*.part"))


@pytest.mark.parametrize(("letter", "role"), [("W", "write"), ("R", "read"), ("F", "fineGrained")])
def test_the_demo_tokens_tell_whose_they_are_and_of_which_kind(hub_client, letter, role):
    token = f"hf_Sandbox0Sandbox0Sandbox0Sandbox0{letter}3"

    [found] = hub_client.ask(token, "api.whoami()")

    assert len(token) == 37
    assert (found["type"], found["name"], found["auth"]["accessToken"]["role"]) == ("user", "team3", role)
    assert ("fineGrained" in found["auth"]["accessToken"]) is (role == "fineGrained")


def test_there_are_demo_tokens_of_every_kind_for_every_demo_account():
    assert len(accounts.DEMO_HUB_TOKENS) == 27
    assert {name for name, _ in accounts.DEMO_HUB_TOKENS.values()} == set(accounts.DEMO_TOKENS.values())


def test_an_unknown_token_and_one_of_replicate_open_nothing(account, hub_client):
    answer = httpx.get(f"{account.sandbox.hub_url}/api/whoami-v2", headers={"Authorization": "Bearer hf_nobody"}, trust_env=False)
    [found, listed] = hub_client.ask(account.token, "api.whoami()", "api.model_info('a/b')")

    assert (answer.status_code, answer.json()) == (401, {"error": "Invalid credentials in Authorization header"})
    assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert found[:2] == ["HfHubHTTPError", 401]
    assert listed == ["HfHubHTTPError", 401, "Invalid credentials in Authorization header"]


def test_a_folder_goes_up_in_constant_memory_and_comes_back_the_same(account, user, folder):
    repo, sandbox = f"{account.name}/lora", account.sandbox
    user(
        "api.create_repo('warm-up')",
        "api.upload_file(path_or_fileobj=b'w' * 2**20, path_in_repo='w.bin', repo_id=api.whoami()['name'] + '/warm-up')",
    )
    before = servers.memory_of(sandbox)

    url, again, commit, files, downloaded, small, by_commit = user(
        "api.create_repo('lora', private=True)",
        f"api.create_repo('{repo}', exist_ok=True)",
        f"api.upload_folder(repo_id='{repo}', folder_path='{folder}').oid",
        f"api.list_repo_files('{repo}')",
        f"sha256(api.hf_hub_download('{repo}', 'weights.safetensors'))",
        f"sha256(api.hf_hub_download('{repo}', 'images/sample one.jpg'))",
        f"sha256(api.hf_hub_download('{repo}', 'README.md', revision=api.model_info('{repo}').sha))",
    )

    wanted = hashes(folder)
    assert url == again == f"{sandbox.hub_url}/{repo}"
    assert len(commit) == 40
    assert sorted(files) == sorted([".gitattributes", *wanted])
    assert downloaded == wanted["weights.safetensors"]
    assert (small, by_commit) == (wanted["images/sample one.jpg"], wanted["README.md"])
    assert stored(sandbox, repo) == wanted
    assert servers.memory_of(sandbox) - before < 30 * 1024
    assert scratch(sandbox) == []


def test_the_hub_describes_what_it_holds(account, user, small):
    repo = f"{account.name}/described"
    user(f"api.create_repo('{repo}')", f"api.upload_folder(repo_id='{repo}', folder_path='{small}', path_in_repo='out')")

    siblings, infos, children, sha, metadata, checks, exist = user(
        f"{{s.rfilename: [s.size, s.lfs and s.lfs.sha256] for s in api.model_info('{repo}', files_metadata=True).siblings}}",
        f"{{p.path: p.lfs and p.lfs.sha256 for p in api.get_paths_info('{repo}', ['out/b.safetensors', 'out/a.txt', 'none'])}}",
        f"[p.path for p in api.list_repo_tree('{repo}')] + [p.path for p in api.list_repo_tree('{repo}', 'out')]",
        f"api.model_info('{repo}').sha",
        f"vars(api.get_hf_file_metadata(url=huggingface_hub.hf_hub_url('{repo}', 'out/b.safetensors')))",
        f"[api.auth_check('{repo}'), api.auth_check('{repo}', write=True)]",
        f"[api.file_exists('{repo}', 'out/a.txt'), api.file_exists('{repo}', 'none')]",
    )

    digest = hub_user.sha256(small / "b.safetensors")
    assert siblings["out/b.safetensors"] == [3_000_000, digest]
    assert siblings["out/a.txt"] == [1, None]
    assert infos == {"out/b.safetensors": digest, "out/a.txt": None}
    assert children == [".gitattributes", "out", "out/a.txt", "out/b.safetensors"]
    assert (metadata["etag"], metadata["size"], metadata["commit_hash"]) == (digest, 3_000_000, sha)
    assert (checks, exist) == ([None, None], [True, False])


def test_a_whole_repository_can_be_fetched_by_its_commit(account, user, small, tmp_path):
    repo = f"{account.name}/snapshot"
    user(f"api.create_repo('{repo}')", f"api.upload_folder(repo_id='{repo}', folder_path='{small}')")
    fetch = f"api.snapshot_download('{repo}', revision=api.model_info('{repo}').sha, local_dir='{tmp_path / 'got'}')"

    [place] = user(fetch)

    got = {name: digest for name, digest in hashes(tmp_path / "got").items() if not name.startswith(".")}
    assert place == str(tmp_path / "got")
    assert got == hashes(small)


def test_a_part_of_a_file_can_be_read(account, user, small):
    repo = f"{account.name}/ranges"
    user(f"api.create_repo('{repo}')", f"api.upload_folder(repo_id='{repo}', folder_path='{small}')")
    address = f"{account.sandbox.hub_url}/{repo}/resolve/main/b.safetensors"

    part = httpx.get(address, headers={"Range": "bytes=2999990-"}, trust_env=False)
    head = httpx.head(address, trust_env=False)

    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"b" * 10, "bytes 2999990-2999999/3000000")
    assert (head.status_code, head.headers["x-linked-size"], head.headers["content-length"]) == (200, "3000000", "3000000")
    assert head.headers["etag"] == head.headers["x-linked-etag"] == f'"{hub_user.sha256(small / "b.safetensors")}"'


def test_what_is_here_already_is_not_sent_again_and_what_changed_is(account, user, small):
    repo = f"{account.name}/twice"
    upload = f"api.upload_folder(repo_id='{repo}', folder_path='{small}').oid"
    [_, first, same] = user(f"api.create_repo('{repo}')", upload, upload)
    (small / "a.txt").write_text("changed")

    [changed] = user(upload)

    assert first == same != changed
    assert stored(account.sandbox, repo) == hashes(small)


def test_files_folders_and_repositories_can_be_deleted(account, user, small):
    repo = f"{account.name}/deleted"
    names = f"api.list_repo_files('{repo}')"

    found = user(
        f"api.create_repo('{repo}')",
        f"api.upload_folder(repo_id='{repo}', folder_path='{small}')",
        f"api.upload_folder(repo_id='{repo}', folder_path='{small}', path_in_repo='sub')",
        f"[api.delete_file('a.txt', '{repo}'), {names}][1]",
        f"[api.delete_folder('sub', '{repo}'), {names}][1]",
        f"api.delete_file('a.txt', '{repo}')",
        f"[api.delete_repo('{repo}'), api.repo_exists('{repo}')][1]",
        f"api.delete_repo('{repo}')",
    )

    assert found[3:5] == [[".gitattributes", "b.safetensors", "sub/a.txt", "sub/b.safetensors"], [".gitattributes", "b.safetensors"]]
    assert found[5] == ["RemoteEntryNotFoundError", 404, "A file with this name doesn't exist"]
    assert found[6] is False
    assert found[7] == ["RepositoryNotFoundError", 404, "Repository not found"]
    assert repo not in [each["repo"] for each in account.sandbox.control("hub").json()]


def test_a_private_repository_is_its_owners_alone(account, user, open_user, hub_client):
    repo = f"{account.name}/private"
    user(f"api.create_repo('{repo}', private=True)", "api.create_repo('public')")
    questions = (f"api.model_info('{repo}')", f"api.hf_hub_download('{repo}', '.gitattributes')", f"api.list_repo_files('{repo}')")
    seen = f"api.model_info('{account.name}/public').private"

    stranger = open_user("stranger")(*questions, seen)
    nobody = hub_client.ask("", *questions, seen)

    assert stranger == [["RepositoryNotFoundError", 404, "Repository not found"]] * 3 + [False]
    assert nobody == [["RepositoryNotFoundError", 401, "Repository not found"]] * 3 + [False]


def test_a_token_that_may_only_read_changes_nothing(account, user, open_user):
    repo = f"{account.name}/guarded"
    user(f"api.create_repo('{repo}', private=True)")

    reading, uploading, checking, creating, deleting = open_user(role="read")(
        f"api.model_info('{repo}').private",
        f"api.upload_file(path_or_fileobj=b'x', path_in_repo='x', repo_id='{repo}')",
        f"api.auth_check('{repo}', write=True)",
        f"api.create_repo('{account.name}/new')",
        f"api.delete_repo('{repo}')",
    )

    assert reading is True
    assert [uploading, checking, deleting] == [["HfHubHTTPError", 403, READ_ONLY]] * 3
    assert creating == ["HfHubHTTPError", 403, f'You don\'t have the rights to create a model under the namespace "{account.name}"']
    assert stored(account.sandbox, repo) == {}


def test_another_accounts_public_repository_can_be_read_and_not_changed(account, user, open_user):
    repo = f"{account.name}/open"
    user(f"api.create_repo('{repo}')")

    found = open_user("stranger")(
        f"api.list_repo_files('{repo}')",
        f"api.upload_file(path_or_fileobj=b'x', path_in_repo='x', repo_id='{repo}')",
        f"api.create_repo('{account.name}/theirs')",
    )

    assert found[0] == [".gitattributes"]
    assert [each[1] for each in found[1:]] == [403, 403]


def test_a_fine_grained_token_may_write(account, open_user):
    repo = f"{account.name}/fine"

    open_user(role="fineGrained")(
        f"api.create_repo('{repo}')", f"api.upload_file(path_or_fileobj=b'x', path_in_repo='x', repo_id='{repo}')"
    )

    assert stored(account.sandbox, repo) == {"x": hashlib.sha256(b"x").hexdigest()}


def test_what_is_not_there_is_named(account, user):
    repo = f"{account.name}/there"

    found = user(
        f"api.create_repo('{repo}').repo_id",
        f"api.create_repo('{repo}')",
        f"api.hf_hub_download('{repo}', 'none')",
        f"api.hf_hub_download('{repo}', '.gitattributes', revision='none')",
        f"api.dataset_info('{repo}')",
        f"api.create_repo('{repo}', repo_type='dataset')",
    )

    assert found[:2] == [repo, ["HfHubHTTPError", 409, "You already created this model repo"]]
    assert [each[:2] for each in found[2:]] == [
        ["RemoteEntryNotFoundError", 404],
        ["RevisionNotFoundError", 404],
        ["HfHubHTTPError", 404],
        ["HfHubHTTPError", 404],
    ]


def test_a_commit_on_an_old_parent_is_refused(account, user):
    repo = f"{account.name}/raced"
    upload = f"api.upload_file(path_or_fileobj=b'x', path_in_repo='x', repo_id='{repo}', parent_commit='{'a' * 40}')"

    [_, found] = user(f"api.create_repo('{repo}')", upload)

    assert found == ["HfHubHTTPError", 412, "A commit has happened since. Please refresh and try again."]


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b'{"key": "file", "value": {"path": "../x", "content": ""}}',
        b'{"key": "file", "value": {"path": "/x", "content": ""}}',
        b'{"key": "file", "value": {"path": "x", "content": "!", "encoding": "base64"}}',
        b'{"key": "lfsFile", "value": {"path": "x", "oid": "never uploaded"}}',
        b'{"key": "header", "value": {"summary": "\\ud800"}}',
    ],
)
def test_a_commit_that_makes_no_sense_is_a_bad_request(account, user, http, line):
    user("api.create_repo('nonsense')")
    body = b'{"key": "header", "value": {"summary": "s"}}\n' + line + b"\n"

    answer = http.post(f"/api/models/{account.name}/nonsense/commit/main", content=body)

    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert stored(account.sandbox, f"{account.name}/nonsense") == {}


@pytest.mark.parametrize("files", [None, ["x"], [{"path": "x"}], [{"path": "x", "size": "y", "sample": ""}]])
def test_an_announcement_that_makes_no_sense_is_a_bad_request(account, user, http, files):
    user("api.create_repo('nonsense')")

    answer = http.post(f"/api/models/{account.name}/nonsense/preupload/main", json={"files": files})

    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize("objects", [None, ["x"], [{"oid": "x", "size": 1}], [{"oid": "a" * 64}]])
def test_a_batch_that_makes_no_sense_is_a_bad_request(account, user, http, objects):
    user("api.create_repo('nonsense')")

    answer = http.post(f"/{account.name}/nonsense.git/info/lfs/objects/batch", json={"objects": objects})

    assert (answer.status_code, list(answer.json())) == (400, ["error"])


@pytest.mark.parametrize("name", [None, "", "a/b", "..", "-x", "x.git", "x" * 97])
def test_a_repository_needs_a_name_that_the_hub_takes(http, name):
    answer = http.post("/api/repos/create", json={"name": name})

    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Invalid repo name")


def announce(http, repo: str, content: bytes) -> tuple[str, dict]:
    """Announce a large file; answer where it is to be put, and how it is verified."""
    wanted = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    [answer] = http.post(f"/{repo}.git/info/lfs/objects/batch", json={"objects": [wanted]}).json()["objects"]
    return answer["actions"]["upload"]["href"], {"url": answer["actions"]["verify"]["href"], "json": wanted}


def test_an_upload_needs_the_address_that_was_made_for_it_and_the_right_bytes(account, user, http):
    user("api.create_repo('addressed')")
    address, check = announce(http, f"{account.name}/addressed", b"right")

    forged = httpx.put(address.replace("signature=", "signature=x"), content=b"right", trust_env=False)
    moved = httpx.put(address.replace("addressed", "other"), content=b"right", trust_env=False)
    wrong = httpx.put(address, content=b"wrong", trust_env=False)
    unverified = http.post(**check)
    right = httpx.put(address, content=b"right", trust_env=False)
    verified = http.post(**check)

    assert [each.status_code for each in (forged, moved, wrong, unverified, right, verified)] == [403, 403, 400, 404, 200, 200]


# Faults on demand


@pytest.mark.parametrize(
    ("status", "said"), [(401, "Invalid credentials in Authorization header"), (403, READ_ONLY), (500, None), (503, None)]
)
def test_changes_can_be_made_to_fail_and_reading_goes_on(account, user, status, said):
    repo = f"{account.name}/faulty{status}"
    user(f"api.create_repo('{repo}')")
    account.rule(hub_status=status)

    creating, committing, reading = user(
        f"api.create_repo('{account.name}/new')",
        f"api.delete_file('.gitattributes', '{repo}')",
        f"api.list_repo_files('{repo}')",
    )

    assert creating == committing == ["HfHubHTTPError", status, said]
    assert reading == [".gitattributes"]


def test_a_fault_that_passes_is_survived_by_the_client(account, user, small):
    repo = f"{account.name}/passing"
    user(f"api.create_repo('{repo}')")
    account.rule(hub_status=503, times=1)

    user(f"api.upload_folder(repo_id='{repo}', folder_path='{small}')")

    assert stored(account.sandbox, repo) == hashes(small)


def test_the_storage_can_be_full(account, user, small):
    repo = f"{account.name}/full"
    account.rule(hub_storage="full")
    upload = f"api.upload_folder(repo_id='{repo}', folder_path='{small}')"
    text = f"api.upload_file(path_or_fileobj=b'x', path_in_repo='x.txt', repo_id='{repo}')"

    [_, large, regular] = user(f"api.create_repo('{repo}')", upload, text)

    sentence = "Private repository storage limit reached, please upgrade your plan to increase your private storage limit"
    assert large == regular == ["HfHubHTTPError", 403, sentence]
    assert stored(account.sandbox, repo) == {}


def test_repositories_can_be_gated(account, user):
    repo = f"{account.name}/gated"
    user(f"api.create_repo('{repo}')")
    account.rule(hub_gated=True)

    downloading, checking, seeing = user(
        f"api.hf_hub_download('{repo}', '.gitattributes')", f"api.auth_check('{repo}')", f"api.model_info('{repo}').id"
    )

    assert [each[:2] for each in (downloading, checking)] == [["GatedRepoError", 403]] * 2
    assert checking[2].endswith(f"Visit https://huggingface.co/{repo} to ask for access.")
    assert seeing == repo


def test_an_upload_can_be_cut_in_the_middle_and_leaves_nothing_half_done(account, user, http):
    user("api.create_repo('cut')")
    content = b"c" * 3_000_000
    address, check = announce(http, f"{account.name}/cut", content)
    account.rule(hub_cut_bytes=1_000_000)

    with pytest.raises(httpx.TransportError):
        httpx.put(address, content=content, trust_env=False)
    there = http.post(**check)

    assert there.status_code == 404
    assert scratch(account.sandbox) == []


def test_the_client_survives_one_cut(account, user, small):
    repo = f"{account.name}/cut-once"
    user(f"api.create_repo('{repo}')")
    account.rule(hub_cut_bytes=1_000_000, times=1)

    user(f"api.upload_folder(repo_id='{repo}', folder_path='{small}')")

    assert stored(account.sandbox, repo) == hashes(small)
    assert account.name not in [rule["scope"] for rule in account.sandbox.control("settings").json()["rules"]]


def test_the_hub_can_be_slow(account, user):
    account.rule(hold_hub_answer_seconds=1.5, times=1)
    ask = "[huggingface_hub.hf_api.time.monotonic(), api.whoami(), huggingface_hub.hf_api.time.monotonic()]"

    [slow, quick] = user(ask, ask)

    assert slow[2] - slow[0] > 1.5 > quick[2] - quick[0]


# State and control


def test_a_killed_hub_goes_on_where_it_was(tmp_path, small):
    token, repo = "hf_Sandbox0Sandbox0Sandbox0Sandbox0W1", "team1/kept"
    sandbox = servers.Sandbox(tmp_path / "sandbox", speed=1)
    client = hub_user.HubUser(sandbox.hub_url, tmp_path / "home")
    [_, commit] = client.ask(
        token, f"api.create_repo('{repo}', private=True)", f"api.upload_folder(repo_id='{repo}', folder_path='{small}').oid"
    )
    sandbox.kill()
    [half_done] = [folder / "half-done" for folder in (tmp_path / "sandbox/hub").iterdir()]
    half_done.write_bytes(b"x")

    again = servers.Sandbox(tmp_path / "sandbox", speed=1, port=sandbox.port, hub_port=sandbox.hub_port)
    sha, files, digest, private = client.ask(
        token,
        f"api.model_info('{repo}').sha",
        f"sorted(api.list_repo_files('{repo}'))",
        f"sha256(api.hf_hub_download('{repo}', 'b.safetensors'))",
        f"api.model_info('{repo}').private",
    )

    assert (sha, files, private) == (commit, [".gitattributes", "a.txt", "b.safetensors"], True)
    assert digest == hub_user.sha256(small / "b.safetensors")
    assert stored(again, repo) == hashes(small)
    assert not half_done.exists()
    client.stop()
    again.stop()


def test_an_upload_that_the_hub_did_not_survive_is_done_again(tmp_path):
    sandbox = servers.Sandbox(tmp_path, speed=1)
    headers = {"Authorization": "Bearer hf_Sandbox0Sandbox0Sandbox0Sandbox0W1"}
    http = httpx.Client(base_url=sandbox.hub_url, headers=headers, trust_env=False)
    http.post("/api/repos/create", json={"name": "cut"}).raise_for_status()
    content = b"y" * 1_000_000
    address, check = announce(http, "team1/cut", content)

    def half():
        yield content[:500_000]
        while not scratch(sandbox):
            time.sleep(0.01)
        os.kill(sandbox.process.pid, signal.SIGKILL)
        yield content[500_000:]

    with pytest.raises(httpx.TransportError):
        httpx.put(address, content=half(), trust_env=False)
    sandbox.kill()
    again = servers.Sandbox(tmp_path, speed=1, port=sandbox.port, hub_port=sandbox.hub_port)
    left = scratch(again)
    uploaded, verified = httpx.put(address, content=content, trust_env=False), http.post(**check)

    assert left == []
    assert (uploaded.status_code, verified.status_code) == (200, 200)
    http.close()
    again.stop()


def test_the_control_page_lists_the_files(account, user, small):
    repo = f"{account.name}/shown"
    user(f"api.create_repo('{repo}')", f"api.upload_folder(repo_id='{repo}', folder_path='{small}')")

    page = account.sandbox.control("").text

    assert f"<h3>{repo}</h3>" in page
    assert all(f"<td>{digest}</td>" in page for digest in hashes(small).values())


def test_the_control_channel_names_the_kinds_of_tokens(account):
    answer = account.sandbox.control("tokens", token="hf_x", account="a", role="admin")

    assert (answer.status_code, answer.json()) == (400, {"error": "role takes write | read | fineGrained."})


def test_the_two_ports_do_not_mix(account):
    hub_on_api = httpx.get(f"{account.sandbox.url}/api/whoami-v2", trust_env=False)
    api_on_hub = httpx.get(f"{account.sandbox.hub_url}/v1/account", trust_env=False)
    control_on_hub = httpx.get(f"{account.sandbox.hub_url}/control/help", trust_env=False)

    assert [each.status_code for each in (hub_on_api, api_on_hub, control_on_hub)] == [404, 404, 404]


# The trainer


def test_a_run_publishes_the_very_files_that_it_wrote_to_the_hub(account, open_token):
    token = open_token()
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]

    done = account.finish(servers.inputs(images=images, hub_model_id=f"{account.name}/trained", hf_token=token))

    written = {each["key"]: each["sha256"] for each in account.sandbox.evidence(done)["files"]}
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert done["output"] == f"https://huggingface.co/{account.name}/trained"
    assert done["logs"].splitlines()[-1] == f"Model published to: {done['output']}"
    assert "pytorch_lora_weights.safetensors" in written
    assert stored(account.sandbox, f"{account.name}/trained") == written


def test_a_run_publishes_its_checkpoints_on_the_way_and_goes_on_when_the_hub_refuses_one(account, open_token):
    token = open_token()
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]
    config = json.dumps({**servers.CONFIG, "--checkpointing_steps": 10})
    account.rule(hub_status=403, times=1)

    done = account.finish(servers.inputs(images=images, config_json=config, hub_model_id=f"{account.name}/early", hf_token=token))

    published = [line for line in done["logs"].splitlines() if line.startswith("[TRAINING] Status: ") or "uploading checkpoint" in line]
    uploading, available = "[TRAINING] Status: uploading_model", "[TRAINING] Status: model_available"
    assert (done["status"], published[0], published[2:]) == ("succeeded", uploading, [uploading, available, uploading, available])
    assert published[1].startswith("[ERROR] Error uploading checkpoint: ")
    # A checkpoint lies where the result is to lie; the result's push adds the run's folder, which has the checkpoints, too.
    assert {"training_state.json", "checkpoint-10/training_state.json", "checkpoint-20/training_state.json"} < set(
        stored(account.sandbox, f"{account.name}/early")
    )


def test_a_run_without_a_namespace_publishes_to_the_tokens_account(account, open_token):
    token = open_token()
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]

    done = account.finish(servers.inputs(images=images, hub_model_id="short", hf_token=token))

    assert done["output"] == f"https://huggingface.co/{account.name}/short"


def test_a_run_whose_token_may_not_write_fails_with_the_hubs_words_and_without_the_token(account, open_token):
    token = open_token(role="read")
    images = account.upload(servers.archive("a_cat.jpg"))["urls"]["get"]

    done = account.finish(servers.inputs(images=images, hub_model_id=f"{account.name}/refused", hf_token=token))

    assert done["status"] == "failed"
    assert f'You don\'t have the rights to create a model under the namespace "{account.name}"' in done["error"]
    assert token not in str(done)


@pytest.mark.parametrize(
    ("path", "size", "sample", "large"),
    [
        ("a/b.safetensors", 1, b"", True),
        ("a.json", 20_000_000, b"{}", True),
        ("picture.png", 100, b"\x89PNG\0", True),
        ("a.json", 100, b"{}", False),
    ],
)
def test_large_files_are_known_by_name_size_or_content(path, size, sample, large):
    assert repositories.is_large(path, size, sample) is large
