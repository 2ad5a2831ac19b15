"""Service files: deployed, replaced, refused, rolled back and removed, on every worker of every server."""

from __future__ import annotations

import pytest

from junctor.server.client import RemoteError
from junctor.sql.errors import InvalidInput
from tests.helpers.cluster import ClusterUnderTest, ServerUnderTest
from tests.helpers.waiting import wait_until

from .conftest import drop, service

HELPER_FIRST = "def greeting():\n    return 'first'\n"


def answers(server: ServerUnderTest, path: str, times: int = 6) -> set[str]:
    """What several requests on connections of their own are answered with: several workers' answers, that is."""
    return {server.get(path, headers={"Connection": "close"}).text for _ in range(times)}


def says(cluster: ClusterUnderTest, path: str, text: str) -> bool:
    """Whether every server answers with this text."""
    return all(answers(server, path) == {text} for server in cluster.servers)


class TestThroughTheAPI:
    def test_all_workers_run_a_file_once_it_is_deployed(self, cluster: ClusterUnderTest) -> None:
        deployed = cluster.deploy(one=service("d.one", "'version 1'"))
        assert deployed["services"] == [{"file": "one.py", "service": "d.one"}]
        cluster.channel("d1", "d.one", data_format="")
        assert says(cluster, "/d1", "version 1")
        for number in (2, 3):
            cluster.deploy(one=service("d.one", f"'version {number}'"))
            assert says(cluster, "/d1", f"version {number}")

    def test_deploying_the_same_text_again_changes_nothing(self, cluster: ClusterUnderTest) -> None:
        source = service("d.same", "'same'")
        first = cluster.deploy(same=source)
        assert cluster.deploy(same=source)["config_version"] == first["config_version"]
        assert len(cluster.invoke("junctor.service.versions", {"name": "same.py"})["items"]) == 1

    @pytest.mark.parametrize(
        ("source", "line", "reason"),
        [
            ("import os\n\ndef broken(:\n", 3, "SyntaxError"),
            ("x = 1\n\ny = 1 / 0\n", 3, "ZeroDivisionError: division by zero"),
            ("\nimport not_there_at_all\n", 2, "No module named 'not_there_at_all'"),
            (service("d.refused", "1", head="raise SystemExit(3)\n"), 1, "SystemExit: 3"),
            (
                "from zato.server.service import Service\n\nclass X(Service):\n    name = 'd.refused'\n",
                3,
                "handle",
            ),
        ],
    )
    def test_a_broken_file_is_refused_with_its_line_and_reason_and_the_one_that_works_stays(
        self, cluster: ClusterUnderTest, source: str, line: int, reason: str
    ) -> None:
        if cluster.invoke("zato.channel-rest.get-list", {"query": "d-refused"})["total"] == 0:
            cluster.deploy(refused=service("d.refused", "'works'"))
            cluster.channel("d-refused", "d.refused", data_format="")
        before = cluster.invoke("junctor.cluster.status")["config_version"]
        with pytest.raises(RemoteError) as refused:
            cluster.deploy(refused=source)
        assert refused.value.status == 400
        assert f"refused.py, line {line}:" in str(refused.value)
        assert reason in str(refused.value)
        assert cluster.invoke("junctor.cluster.status")["config_version"] == before
        assert says(cluster, "/d-refused", "works")

    def test_of_several_files_none_is_deployed_when_one_is_refused(self, cluster: ClusterUnderTest) -> None:
        with pytest.raises(RemoteError, match=r"second\.py, line 1"):
            cluster.deploy(first=service("d.first", "1"), second="1 /")
        assert cluster.invoke("zato.service.get-list", {"query": "d.first"})["total"] == 0

    def test_files_import_helper_modules_that_are_deployed_with_them(self, cluster: ClusterUnderTest) -> None:
        user = service("d.user", "helper_of_user.greeting()", head="import helper_of_user\n")
        cluster.deploy(a_user=user, helper_of_user=HELPER_FIRST)
        cluster.channel("d-user", "d.user", data_format="")
        assert says(cluster, "/d-user", "first")

    def test_a_service_moves_to_another_file_when_both_are_deployed(self, cluster: ClusterUnderTest) -> None:
        cluster.deploy(moves_from=service("d.moves", "'from'") + service("d.stays", "'stays'"))
        cluster.channel("d-moves", "d.moves", data_format="")
        with pytest.raises(RemoteError, match=r"already, in moves_from\.py"):
            cluster.deploy(moves_to=service("d.moves", "'to'"))
        cluster.deploy(moves_from=service("d.stays", "'stays'"), moves_to=service("d.moves", "'to'"))
        assert says(cluster, "/d-moves", "to")
        back = service("d.moves", "'back'") + service("d.stays", "'stays'")
        cluster.deploy(moves_from=back, moves_to=HELPER_FIRST)
        assert says(cluster, "/d-moves", "back")
        assert not [worker for worker in cluster.workers() if worker["problems"]]

    def test_a_file_cannot_lose_a_service_that_a_channel_needs(self, cluster: ClusterUnderTest) -> None:
        cluster.deploy(loses=service("d.needed", "'needed'"))
        cluster.channel("d-needed", "d.needed", data_format="")
        with pytest.raises(RemoteError, match=r"d\.needed.*REST channel 'd-needed'"):
            cluster.deploy(loses=service("d.other", "1"))
        assert says(cluster, "/d-needed", "needed")

    def test_a_file_whose_service_is_in_use_is_not_removed(self, cluster: ClusterUnderTest) -> None:
        cluster.deploy(used=service("d.used", "'used'"))
        cluster.channel("d-used", "d.used", data_format="")
        with pytest.raises(RemoteError, match="REST channel 'd-used'") as refused:
            cluster.write("zato.service-source.delete", name="used.py")
        assert refused.value.status == 409
        cluster.write("zato.channel-rest.delete", name="d-used")
        cluster.write("zato.service-source.delete", name="used.py")
        assert cluster.invoke("zato.service.get-list", {"query": "d.used"})["total"] == 0
        with pytest.raises(RemoteError, match=r"There is no active service 'd\.used'"):
            cluster.invoke("d.used", server=1)

    def test_an_earlier_version_comes_back_with_one_call(self, cluster: ClusterUnderTest) -> None:
        for number in (1, 2, 3):
            cluster.deploy(rolled=service("d.rolled", f"'version {number}'"))
        cluster.channel("d-rolled", "d.rolled", data_format="")
        assert cluster.write("junctor.service.rollback", name="rolled.py")["number"] == 2
        assert says(cluster, "/d-rolled", "version 2")
        cluster.write("junctor.service.rollback", name="rolled.py", number=1)
        assert says(cluster, "/d-rolled", "version 1")
        versions = cluster.invoke("junctor.service.versions", {"name": "rolled.py"})["items"]
        assert [item["number"] for item in versions] == [5, 4, 3, 2, 1]
        assert versions[0]["digest"] == versions[-1]["digest"]
        assert {item["who"] for item in versions} == {"admin.invoke"}

    @pytest.mark.parametrize(
        ("service_name", "payload", "error"),
        [
            ("junctor.service.deploy", {}, "files: must be a list of 1 to 500 files."),
            ("junctor.service.deploy", {"files": []}, "files: must be a list"),
            ("junctor.service.deploy", {"files": ["x"]}, r"files\[0\]: must be an object"),
            ("junctor.service.deploy", {"files": [{"name": "a.py"}]}, r"files\[0\]: must be an object"),
            (
                "junctor.service.deploy",
                {"files": [{"name": "a.py", "content": ""}] * 2},
                r"files\[1\]: there is another 'a.py' before it",
            ),
            ("junctor.service.rollback", {}, "name: is required"),
            ("junctor.service.rollback", {"name": "tests_of_channels.py", "number": "1"}, "number: must be"),
            ("junctor.service.rollback", {"name": "tests_of_channels.py"}, "has only one version"),
        ],
    )
    def test_wrong_input_is_refused(
        self, services: ClusterUnderTest, service_name: str, payload: dict[str, object], error: str
    ) -> None:
        with pytest.raises(InvalidInput, match=error):
            services.invoke(service_name, payload)

    @pytest.mark.parametrize("name", ["../evil.py", "evil", "9.py", "a b.py", "x" * 300 + ".py", ""])
    def test_a_file_name_that_is_no_module_is_refused(self, cluster: ClusterUnderTest, name: str) -> None:
        with pytest.raises(RemoteError, match="a file's name is letters, digits and underscores"):
            cluster.invoke("junctor.service.deploy", {"files": [{"name": name, "content": ""}]})

    @pytest.mark.parametrize("call", ["versions", "rollback"])
    def test_a_file_that_was_never_deployed_is_not_found(self, cluster: ClusterUnderTest, call: str) -> None:
        with pytest.raises(RemoteError) as refused:
            cluster.invoke(f"junctor.service.{call}", {"name": "never.py"})
        assert refused.value.status == 404

    def test_a_version_that_there_is_not_is_not_found(self, services: ClusterUnderTest) -> None:
        with pytest.raises(RemoteError, match="number 77") as refused:
            services.invoke("junctor.service.rollback", {"name": "tests_of_channels.py", "number": 77})
        assert refused.value.status == 404


class TestThroughThePickupDirectory:
    def test_a_file_that_is_copied_runs_on_all_servers_and_so_does_its_next_version(
        self, cluster: ClusterUnderTest
    ) -> None:
        name = "zato.service.get-list"
        for number, server in ((1, 0), (2, 0), (3, 1)):
            drop(cluster.servers[server], "picked.py", service("d.picked", f"'version {number}'"))
            if number == 1:
                wait_until(lambda: cluster.invoke(name, {"query": "d.picked"})["total"] == 1, 5)
                cluster.channel("d-picked", "d.picked", data_format="")
            text = f"version {number}"
            wait_until(lambda text=text: says(cluster, "/d-picked", text), 5)  # type: ignore[misc]
        versions = cluster.invoke("junctor.service.versions", {"name": "picked.py"})["items"]
        assert [item["who"] for item in versions] == ["pickup server2", "pickup server1", "pickup server1"]

    def test_a_broken_file_is_refused_with_the_reason_beside_it_and_in_the_log(
        self, cluster: ClusterUnderTest
    ) -> None:
        server = cluster.servers[0]
        cluster.deploy(dropped=service("d.dropped", "'works'"))
        cluster.channel("d-dropped", "d.dropped", data_format="")
        path = drop(server, "dropped.py", "import os\n1 +\n")
        refusal = path.with_name("dropped.py.refused.txt")
        reason = wait_until(lambda: refusal.read_text() if refusal.exists() else "", 5)
        assert reason.startswith("dropped.py, line 2: SyntaxError")
        server.logged(message=f"Not deployed from the pickup directory: {reason.strip()}", level="ERROR")
        assert says(cluster, "/d-dropped", "works")
        path.write_text(service("d.dropped", "'repaired'"))
        wait_until(lambda: not refusal.exists(), 5)
        wait_until(lambda: says(cluster, "/d-dropped", "repaired"), 5)

    def test_a_broken_file_does_not_hold_up_the_others(self, cluster: ClusterUnderTest) -> None:
        server = cluster.servers[1]
        drop(server, "bad_one.py", "1 /")
        drop(server, "bad_two.py", b"\xff\xfe\xff")
        drop(server, "good_one.py", service("d.good", "1"))
        (server.pickup_directory / "good_link.py").symlink_to("nowhere")
        wait_until(lambda: cluster.invoke("zato.service.get-list", {"query": "d.good"})["total"] == 1, 5)
        for name in ("bad_one", "bad_two"):
            wait_until((server.pickup_directory / f"{name}.py.refused.txt").exists, 5)
        assert not (server.pickup_directory / "good_one.py.refused.txt").exists()

    def test_files_that_import_each_other_can_be_copied_together(self, cluster: ClusterUnderTest) -> None:
        server = cluster.servers[0]
        drop(server, "a_together.py", service("d.together", "z_together.greeting()", "import z_together\n"))
        drop(server, "z_together.py", HELPER_FIRST)
        wait_until(lambda: cluster.invoke("zato.service.get-list", {"query": "d.together"})["total"] == 1, 5)
        cluster.channel("d-together", "d.together", data_format="")
        assert says(cluster, "/d-together", "first")
