import pytest

from junctor.cli import enmasse_file
from junctor.cli.enmasse_file import load
from junctor.sql.errors import InvalidInput, Problem


@pytest.fixture
def read(tmp_path):
    """The document of a text, as if it were in a file in an empty directory."""

    def reads(text, name="f.yml", **more):
        (tmp_path / name).write_text(text)
        return load(tmp_path / name, **more)

    return reads


@pytest.fixture
def problems(read):
    def found(text, **more):
        with pytest.raises(InvalidInput) as caught:
            read(text, **more)
        return [f"{problem.field.rpartition('/')[2]}: {problem.message}" for problem in caught.value.problems]

    return found


def test_objects_are_what_the_server_takes(read):
    document = read("channel_rest:\n  - name: a\n    url_path: /a\n    timeout: 5\noutgoing_rest:\n")
    assert document.payload() == {"channel_rest": [{"name": "a", "url_path": "/a", "timeout": 5}]}
    assert document.warnings == []


def test_zatos_names_of_fields_are_our_own(read):
    document = read("channel_rest:\n- {name: a, service_name: s, sec_def: crm}\n")
    assert document.payload()["channel_rest"] == [{"name": "a", "service": "s", "security": "crm"}]


def test_a_fields_own_name_wins_over_its_alias(read):
    for text in ("{name: a, service: s, service_name: t}", "{name: a, service_name: t, service: s}"):
        assert read(f"channel_rest:\n- {text}\n").payload()["channel_rest"][0]["service"] == "s"


@pytest.mark.parametrize("section", ["security", "def_sec"])
def test_security_definitions_are_of_the_type_that_they_name(read, section):
    text = f"{section}:\n- {{name: a, type: basic_auth, username: u}}\n- {{name: b, type: apikey, username: X-Key}}\n"
    assert read(text).payload() == {
        "security_basic_auth": [{"name": "a", "username": "u"}],
        "security_api_key": [{"name": "b", "header": "X-Key"}],
    }


def test_a_security_definition_of_an_unknown_type_is_refused_with_its_line(problems):
    (found,) = problems("security:\n- name: a\n  type: ntlm\n")
    assert found == "f.yml:2: security has the type 'ntlm'; there are apikey, basic_auth, jwt."


def test_zatos_old_sections_may_have_fields_that_we_do_not_know(read):
    text = (
        "channel_plain_http:\n"
        "- {id: 5, name: a, connection: channel, soap_action: x, url_path: /, data_format: null, ping_method: null}\n"
    )
    document = read(text)
    assert document.payload()["channel_rest"] == [{"name": "a", "url_path": "/", "data_format": ""}]
    (warning,) = document.warnings
    assert warning.endswith("f.yml:2: REST channel has no field soap_action; it is left out.")


def test_an_unknown_field_of_our_own_section_is_left_to_the_server(read):
    assert read("channel_rest:\n- {name: a, colour: red}\n").payload()["channel_rest"] == [
        {"name": "a", "colour": "red"}
    ]


def test_unknown_things_can_be_left_out_with_warnings(read):
    document = read("scheduler:\n- {name: j}\nchannel_rest:\n- {name: a, colour: red}\n", skip_unknown=True)
    assert document.payload() == {"channel_rest": [{"name": "a"}]}
    assert len(document.warnings) == 2


@pytest.mark.parametrize("section", ["scheduler", "service", "cluster", "security_none"])
def test_a_section_that_cannot_be_imported_is_refused(problems, section):
    (found,) = problems(f"{section}:\n- {{name: a}}\n")
    assert found.startswith(f"f.yml:2: {section} is not a type of objects; there are ")


def test_what_comes_with_a_server_is_left_out(read):
    text = (
        "security:\n- {name: pubapi, type: basic_auth}\n- {name: admin.invoke, type: basic_auth}\n"
        "channel_rest:\n- {name: a, is_internal: true}\n"
    )
    document = read(text)
    assert document.payload() == {}
    assert len(document.warnings) == 3


def test_keys_that_begin_with_x_are_for_the_file_itself(read):
    assert read("x-base: &b {timeout: 7}\nchannel_rest:\n- {<<: *b, name: a}\n").payload() == {
        "channel_rest": [{"timeout": 7, "name": "a"}]
    }


def test_references_are_resolved(read, monkeypatch, tmp_path):
    monkeypatch.setenv("CRM_PASSWORD", "hunter2")
    (tmp_path / "key").write_text("abc\n")
    text = "security:\n- {name: a, type: basic_auth, password: $CRM_PASSWORD}\n- {name: b, type: apikey, password: 'file:key'}\n"
    found = read(text).payload()
    assert found["security_basic_auth"][0]["password"] == "hunter2"
    assert found["security_api_key"][0]["key"] == "abc"


def test_a_reference_to_nothing_is_refused_with_field_and_line(problems, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    assert problems("security:\n- name: a\n  type: basic_auth\n  password: ${NOT_SET}\n") == [
        "f.yml:4: password refers to the environment variable NOT_SET, which is not set."
    ]


def test_included_files_are_part_of_the_document(read, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "more.yml").write_text("include: deeper.json\nchannel_rest:\n- {name: b}\n")
    (tmp_path / "sub" / "deeper.json").write_text('{"channel_rest": [{"name": "c"}]}')
    document = read("include:\n- sub/more.yml\nchannel_rest:\n- {name: a}\n")
    assert [item["name"] for item in document.payload()["channel_rest"]] == ["c", "b", "a"]


def test_an_item_may_be_the_path_of_a_file_with_one_object_or_a_whole_document(read, tmp_path):
    (tmp_path / "one.yml").write_text("name: a\nurl_path: /a\n")
    (tmp_path / "all.yml").write_text("channel_rest:\n- {name: b}\n")
    document = read("channel_rest:\n- file://one.yml\n- all.yml\n")
    assert document.payload()["channel_rest"] == [{"name": "a", "url_path": "/a"}, {"name": "b"}]


def test_a_file_that_includes_itself_is_refused(problems):
    assert problems("include: [f.yml]\n") == ["f.yml: includes itself."]


def test_a_file_that_is_included_twice_is_refused(problems, tmp_path):
    (tmp_path / "more.yml").touch()
    assert problems("include: [more.yml, more.yml]\n") == ["more.yml: is included twice."]


def test_the_number_of_files_is_bounded(problems, tmp_path, monkeypatch):
    monkeypatch.setattr(enmasse_file, "MAX_FILES", 1)
    (tmp_path / "more.yml").touch()
    assert problems("include: [more.yml]\n") == ["more.yml: is one file too many."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "f.yml:1: must be a mapping of types to lists of objects."),
        ("channel_rest: 5\n", "f.yml:1: channel_rest must be a list of objects."),
        ("channel_rest:\n- 5\n", "f.yml:2: channel_rest must have objects, or paths of files with objects."),
        ("include:\n- [x]\n", "f.yml:2: include must be a list of paths."),
        ("include: none.yml\n", "none.yml: cannot be read: No such file or directory."),
    ],
)
def test_what_is_wrong_with_a_document_is_told(problems, text, message):
    assert problems(text) == [message]


def test_every_problem_is_told_at_once(problems):
    assert len(problems("a:\n- {name: x}\nb:\n- {name: y}\nchannel_rest: 5\n")) == 3


def test_a_file_that_is_too_large_or_no_text_is_refused(problems, monkeypatch, tmp_path):
    monkeypatch.setattr(enmasse_file, "MAX_FILE", 5)
    assert "is larger than" in problems("channel_rest:\n")[0]
    (tmp_path / "f.json").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        load(tmp_path / "f.json")


def test_a_byte_order_mark_is_no_part_of_the_document(tmp_path):
    (tmp_path / "f.yml").write_bytes(b"\xef\xbb\xbfchannel_rest: []\n")
    assert load(tmp_path / "f.yml").payload() == {}


def test_the_servers_problems_get_the_lines_of_the_file(read):
    document = read("channel_rest:\n- name: a\n  service_name: s\n- name: b\n")
    given = [
        Problem("channel_rest[0].service", "there is no service 's'."),
        Problem("channel_rest[1].url_path", "is required."),
        Problem("channel_rest[1]", "exists."),
        Problem("channel_rest[9].x", "is out of range."),
        Problem("owner", "is required."),
    ]
    found = [f"{problem.field.rpartition('/')[2]} {problem.message}" for problem in document.located(given)]
    assert found == [
        "f.yml:3 REST channel 'a': service there is no service 's'.",
        "f.yml:4 REST channel 'b': url_path is required.",
        "f.yml:4 REST channel 'b': exists.",
        "channel_rest[9].x is out of range.",
        "owner is required.",
    ]
