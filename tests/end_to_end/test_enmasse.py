"""Objects in bulk: out of a cluster into a file and back, all of it or nothing."""

import pytest

FILE = """\
security_basic_auth:
  - name: bulk.user
    username: bulk
    password: $BULK_PASSWORD
outgoing_rest:
  - name: bulk.crm
    host: http://127.0.0.1:1
    url_path: /crm/{id}
channel_rest:
  - name: bulk.price
    url_path: /bulk/{product}
    service: shop.price
    security: bulk.user
    timeout: 11
"""
ENVIRONMENT = {"BULK_PASSWORD": "hunter2-from-env"}
TYPES = ["channel-rest", "outgoing-rest", "security-basic-auth", "security-api-key"]


def enmasse(quickstart, verb, text, *options, code=0):
    file = quickstart.file("cluster.yaml", text)
    return quickstart.json("enmasse", verb, "--input", file, *options, env=ENVIRONMENT, code=code)


def wipe(quickstart):
    """Deletes everything that a user has made."""
    for object_type in TYPES:
        for item in quickstart.json(f"list-{object_type}")["items"]:
            quickstart.junctor(f"delete-{object_type}", item["name"])


@pytest.fixture(scope="module")
def imported(quickstart):
    """The answer to the import of the file."""
    answer = enmasse(quickstart, "import", FILE, "--owner", "bulk")
    yield answer
    for object_type, name in (
        ("channel-rest", "bulk.price"),
        ("outgoing-rest", "bulk.crm"),
        ("security-basic-auth", "bulk.user"),
    ):
        quickstart.junctor(f"delete-{object_type}", name)


def test_an_import_is_one_version_that_is_live_when_the_command_returns(quickstart, imported):
    assert imported["converged"]
    assert [(item["verb"], item["kind"], item["name"]) for item in imported["changes"]] == [
        ("create", "security_basic_auth", "bulk.user"),
        ("create", "channel_rest", "bulk.price"),
        ("create", "outgoing_rest", "bulk.crm"),
    ]
    auth = ("bulk", ENVIRONMENT["BULK_PASSWORD"])
    assert quickstart.call("GET", "/bulk/tea?quantity=2", auth=auth).json()["total"] == 8
    assert quickstart.call("GET", "/bulk/tea?quantity=2", auth=("bulk", "$BULK_PASSWORD")).status_code == 401


def test_importing_it_again_changes_nothing(quickstart, imported):
    again = enmasse(quickstart, "import", FILE)

    assert again["changes"] == []
    assert quickstart.status()["cluster"]["config_version"] == again["config_version"]


def test_a_plan_shows_each_difference_and_changes_nothing(quickstart, imported):
    text = FILE.replace("timeout: 11", "timeout: 12")

    plan = enmasse(quickstart, "plan", text)

    assert plan["dry_run"]
    [change] = plan["changes"]
    assert (change["verb"], change["name"], change["differences"]) == (
        "edit",
        "bulk.price",
        {"timeout": [11, 12]},
    )
    shown = quickstart.run(
        "enmasse", "plan", "--path", quickstart.path, "--input", "cluster.yaml", env=ENVIRONMENT
    )
    assert "timeout: 11 -> 12" in shown.out
    assert quickstart.json("get-channel-rest", "bulk.price")["timeout"] == 11


def test_drift_is_an_exit_code(quickstart, imported):
    assert enmasse(quickstart, "drift", FILE)["changes"] == []
    assert enmasse(quickstart, "drift", FILE.replace("timeout: 11", "timeout: 12"), code=1)["changes"]


def test_an_export_has_no_secret_and_says_what_differs_from_the_defaults_alone(quickstart, imported):
    text = quickstart.junctor("enmasse", "--export")

    assert "timeout: 11" in text
    assert "hunter2" not in text
    assert "password" not in text.lower().replace("no secrets", "")
    assert text == quickstart.junctor("enmasse", "export")


def test_a_file_that_is_broken_is_told_with_the_line(quickstart):
    file = quickstart.file("broken.yaml", "channel_rest:\n  - name: x\n    url_path: [/x\n  - name: y\n")

    message = quickstart.refused(3, "enmasse", "import", "--input", file)

    assert f"{file}:" in message
    assert ":4" in message or ":5" in message


def test_one_bad_object_is_told_with_its_line_and_nothing_is_changed(quickstart):
    text = """\
channel_rest:
  - name: bad.fine
    url_path: /bad/fine
    service: shop.price
  - name: bad.one
    url_path: /bad/one
    service: no.such.service
    timeout: 0
"""
    file = quickstart.file("bad.yaml", text)
    before = quickstart.status()["cluster"]["config_version"]

    message = quickstart.refused(3, "enmasse", "import", "--input", file)

    assert f"{file}:8" in message
    assert "timeout" in message
    assert quickstart.json("list-channel-rest", "--query", "bad.")["total"] == 0
    assert quickstart.status()["cluster"]["config_version"] == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chanel_rest:\n  - name: x\n", "chanel_rest is not a type of objects"),
        (
            "security_basic_auth:\n  - name: x\n    username: x\n    password: $NOT_SET_AT_ALL\n",
            "NOT_SET_AT_ALL",
        ),
        ("channel_rest: 7\n", "must be a list of objects"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(quickstart, text, message):
    file = quickstart.file("wrong.yaml", text)

    told = quickstart.refused(3, "enmasse", "import", "--input", file)

    assert message in told
    assert f"{file}:" in told


def test_a_missing_file_is_told(quickstart):
    assert "No such file" in quickstart.refused(3, "enmasse", "import", "--input", "/no/such.yaml")


def test_only_what_has_the_label_is_pruned(quickstart, shop):
    text = "outgoing_rest:\n  - {{name: prune.{}, host: 'http://127.0.0.1:1'}}\n"
    enmasse(quickstart, "import", text.format(1), "--owner", "prune")

    answer = enmasse(quickstart, "import", text.format(2), "--owner", "prune", "--prune")

    assert {(item["verb"], item["name"]) for item in answer["changes"]} == {
        ("create", "prune.2"),
        ("delete", "prune.1"),
    }
    assert shop.price().ok


def test_zatos_form_of_the_command_is_taken(quickstart, imported):
    file = quickstart.file("zato.yaml", FILE)

    ran = quickstart.run(
        "enmasse", quickstart.path, "--import", "--input", file, "--replace", env=ENVIRONMENT
    )

    assert ran.code == 0
    assert "Nothing to change" in ran.out


def test_an_export_brings_everything_back_after_all_was_deleted(own_quickstart, new_shop):
    shop = new_shop(own_quickstart)
    enmasse(own_quickstart, "import", FILE.replace("bulk", "more"))
    exported = own_quickstart.junctor("enmasse", "--export")
    wipe(own_quickstart)
    assert shop.price().status_code == 404

    enmasse(own_quickstart, "import", exported)

    assert own_quickstart.junctor("enmasse", "--export") == exported
    assert shop.price().status_code == 401, (
        "An export has no passwords, so nobody is let in until one is set."
    )
    own_quickstart.junctor(
        "secret", "set", "security-basic-auth", shop.security, "--stdin", stdin="correct horse"
    )
    assert shop.price().ok
