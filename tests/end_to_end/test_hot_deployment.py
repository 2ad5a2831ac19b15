"""A service file goes into one server's pickup directory, and all servers of the cluster run it."""

import itertools

from tests.helpers.waiting import wait_until

ANSWER = '''
import os

from zato.server.service import Service


class Answer(Service):
    """Tells its version, and which process runs it."""

    name = "{name}"

    def handle(self):
        self.response.payload = {{"version": {version}, "pid": os.getpid()}}
'''
_numbers = itertools.count(1)


def invoke(quickstart, service):
    """What a service answers through the load balancer; {} while it is not there."""
    response = quickstart.call("POST", f"/zato/api/invoke/{service}", json={}, auth=quickstart.public)
    assert response.status_code in (200, 400), response.text
    return response.json() if response.ok else {}


def versions_by_server(quickstart, service):
    """The version that each server answers with, over as many calls as it takes to hear from both."""
    servers = quickstart.workers()
    found = {}
    for _ in range(20):
        answer = invoke(quickstart, service)
        if answer:
            found[servers[answer["pid"]]] = answer["version"]
    return found


def wait_for_version(quickstart, service, version):
    wait_until(
        lambda: versions_by_server(quickstart, service) == {"server1": version, "server2": version},
        message=f"Not every server answers with version {version} of {service}.",
    )


def new_service():
    number = next(_numbers)
    return f"picked{number}.py", f"picked.up{number}"


def test_a_file_dropped_at_server1_answers_from_server2_through_the_load_balancer(quickstart):
    file, service = new_service()

    quickstart.drop("server1", file, ANSWER.format(name=service, version=1))

    wait_for_version(quickstart, service, 1)


def test_a_changed_file_takes_the_place_of_what_ran(quickstart):
    file, service = new_service()
    quickstart.drop("server2", file, ANSWER.format(name=service, version=1))
    wait_for_version(quickstart, service, 1)

    quickstart.drop("server2", file, ANSWER.format(name=service, version=2))

    wait_for_version(quickstart, service, 2)
    numbers = [item["number"] for item in quickstart.json("service", "versions", file)["items"]]
    assert numbers == [2, 1]


def test_a_broken_file_is_explained_beside_it_and_the_running_version_goes_on(quickstart):
    file, service = new_service()
    dropped = quickstart.drop("server1", file, ANSWER.format(name=service, version=1))
    wait_for_version(quickstart, service, 1)

    quickstart.drop("server1", file, ANSWER.format(name=service, version=2) + "\n    def broken(:\n")

    refusal = dropped.with_name(f"{file}.refused.txt")
    wait_until(refusal.exists, message="The file was not refused.")
    lines = ANSWER.count("\n")
    assert f"{file}, line {lines + 2}: SyntaxError" in refusal.read_text()
    assert versions_by_server(quickstart, service) == {"server1": 1, "server2": 1}


def test_a_repaired_file_is_deployed_and_the_refusal_is_removed(quickstart):
    file, service = new_service()
    dropped = quickstart.drop("server1", file, "class Broken(:\n")
    refusal = dropped.with_name(f"{file}.refused.txt")
    wait_until(refusal.exists, message="The file was not refused.")

    quickstart.drop("server1", file, ANSWER.format(name=service, version=3))

    wait_for_version(quickstart, service, 3)
    wait_until(lambda: not refusal.exists(), message="The refusal is still there.")


def test_one_command_goes_back_to_the_version_before(quickstart):
    file, service = new_service()
    for version in (1, 2):
        quickstart.junctor("deploy", quickstart.file(file, ANSWER.format(name=service, version=version)))

    quickstart.junctor("rollback", file)

    assert versions_by_server(quickstart, service) == {"server1": 1, "server2": 1}


def test_an_undeployed_service_is_gone_everywhere(quickstart):
    file, service = new_service()
    quickstart.junctor("deploy", quickstart.file(file, ANSWER.format(name=service, version=1)))

    quickstart.junctor("service", "undeploy", file)

    assert versions_by_server(quickstart, service) == {}
