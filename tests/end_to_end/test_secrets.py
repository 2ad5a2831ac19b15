"""Secrets: new keys while everything runs, and no password where it could be read."""

import re

import psycopg2

from tests.helpers.quickstart import call

CANARIES = {"basic": "canary-basic-5f1c", "key": "canary-key-93ad", "edited": "canary-edited-77e0"}


def test_a_new_key_needs_no_restart_and_survives_one(quickstart, shop):
    keyring = quickstart.path / "secrets" / "keyring"

    rotated = quickstart.json("secret", "rotate")

    assert rotated["encrypted"] == rotated["secrets"] >= 3
    assert len(keyring.read_text().splitlines()) == 2
    assert shop.price().ok
    quickstart.junctor("edit-channel-rest", shop.channel, "--timeout", "5")
    refused = quickstart.refused(8, "secret", "retire")
    assert "was started before the newest key was made" in refused

    quickstart.junctor("stop")
    quickstart.junctor("start")

    assert shop.price().ok
    retired = quickstart.json("secret", "retire", "--yes")  # other tests log in
    assert (retired["key"], len(retired["removed"])) == (rotated["key"], 1)
    assert len(keyring.read_text().splitlines()) == 1

    quickstart.junctor("reload")

    assert shop.price().ok
    assert quickstart.call("POST", "/zato/api/invoke/zato.ping", json={}, auth=quickstart.public).ok
    quickstart.wait_until_healthy()


def test_no_password_is_where_it_could_be_read(quickstart):
    file = quickstart.file("canary.txt", CANARIES["basic"])
    quickstart.junctor(
        "create-security-basic-auth", "canary", "--username", "canary", "--password-file", file
    )
    quickstart.junctor("create-security-api-key", "canary-key", "--key-stdin", stdin=CANARIES["key"])
    quickstart.junctor("secret", "set", "security-basic-auth", "canary", "--stdin", stdin=CANARIES["edited"])
    quickstart.call("GET", "/zato/ping", auth=("canary", CANARIES["basic"]))
    own = [path.read_text().strip() for path in (quickstart.path / "secrets").iterdir()]
    secrets = [
        *CANARIES.values(),
        *own,
        *(line.partition(":")[2] for secret in own for line in secret.split()),
    ]

    seen = {
        "export": quickstart.junctor("enmasse", "--export"),
        "history": str(quickstart.json("history", "--limit", "1000")),
        "lists": "".join(
            str(quickstart.json(f"list-security-{kind}", "--internal")) for kind in ("basic-auth", "api-key")
        ),
        "objects": str(quickstart.json("get-security-basic-auth", "canary")),
        "status": str(quickstart.status()),
        "process list": str(quickstart.command_lines()),
        "metrics": call(f"http://127.0.0.1:{quickstart.port_base}/metrics").text,
    }
    seen |= {str(path): path.read_text("utf-8", "replace") for path in quickstart.logs()}

    assert "canary" in seen["lists"]
    assert all(name in seen["process list"] for name in ("postgres", "valkey", "server1", "haproxy"))
    assert [place for place, text in seen.items() if any(s and s in text for s in secrets)] == []


def test_the_database_has_no_secret_in_the_clear(quickstart):
    file = quickstart.file("canary.txt", CANARIES["basic"])
    quickstart.junctor("create-security-basic-auth", "clear", "--username", "clear", "--password-file", file)
    quickstart.junctor("delete-security-basic-auth", "clear")

    dump = everything_in_the_database(quickstart)

    assert "clear" in dump
    secrets = [CANARIES["basic"], quickstart.admin[1], quickstart.public[1]]
    assert not [secret for secret in secrets if secret in dump]


def everything_in_the_database(quickstart):
    """Each row of each table, as text."""
    port = int(re.search(r":(\d+)/", quickstart.json("info")["object_database"])[1])
    password = quickstart.secret("odb-password")
    connection = psycopg2.connect(
        host="127.0.0.1", port=port, user="junctor", password=password, dbname="junctor"
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            tables = [name for (name,) in cursor.fetchall()]
            rows = []
            for table in tables:
                cursor.execute(f'SELECT t::text FROM "{table}" t')
                rows += [row for (row,) in cursor.fetchall()]
    finally:
        connection.close()
    return "\n".join(rows)
