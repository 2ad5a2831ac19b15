"""Addresses with parameters."""

import pytest

from junctor.server.outgoing.url_template import UrlTemplate
from junctor.sql.errors import InvalidInput


@pytest.mark.parametrize(
    ("host", "path", "params", "url", "rest"),
    [
        ("http://a", "/b", None, "http://a/b", {}),
        ("http://a", "", {"x": 1}, "http://a", {"x": 1}),
        ("http://a/", "/b", {}, "http://a/b", {}),
        ("http://a", "/b/{id}", {"id": 1, "q": "x"}, "http://a/b/1", {"q": "x"}),
        ("http://a", "/b/{id}/c/{id}", {"id": "1"}, "http://a/b/1/c/1", {}),
        ("http://{tenant}.a:8080", "/{x}", {"tenant": "t-1", "x": 0}, "http://t-1.a:8080/0", {}),
        ("http://a/{x}", "/y", {"x": "a/b?c#d e%&é"}, "http://a/a%2Fb%3Fc%23d%20e%25%26%C3%A9/y", {}),
        ("http://a", "/b?fixed={x}", {"x": "1&y=2"}, "http://a/b?fixed=1%26y%3D2", {}),
        ("http://a", "/b/{x}", {"x": "..."}, "http://a/b/...", {}),
    ],
)
def test_parameters_are_filled_in_and_the_others_left(host, path, params, url, rest):
    assert UrlTemplate(host, path).fill(params) == (url, rest)


def test_what_the_caller_gives_is_not_changed():
    params = {"id": 1}
    UrlTemplate("http://a", "/{id}").fill(params)
    assert params == {"id": 1}


@pytest.mark.parametrize("params", [None, {}, {"x": None, "y": ""}, {"z": 1}])
def test_all_that_is_missing_is_named(params):
    with pytest.raises(ValueError, match=r"http://a/\{x\}/\{y\} needs parameters that are missing: x, y\."):
        UrlTemplate("http://a", "/{x}/{y}").fill(params)


@pytest.mark.parametrize("value", [".", ".."])
def test_a_parameter_cannot_lead_to_another_path(value):
    with pytest.raises(ValueError, match="leads elsewhere"):
        UrlTemplate("http://a", "/users/{x}/secrets").fill({"x": value})


@pytest.mark.parametrize("value", ["b.example/", "u@b", "b:80", "b?", "b#", "b\\", "b c", "%2e"])
def test_a_parameter_cannot_lead_to_another_host(value):
    with pytest.raises(ValueError, match="part of a host name"):
        UrlTemplate("http://{x}.example", "/").fill({"x": value})


@pytest.mark.parametrize("host", ["", "a", "ftp://a", "//a", "{x}://a"])
def test_a_host_needs_its_scheme(host):
    with pytest.raises(InvalidInput, match="http://"):
        UrlTemplate(host)


def test_credentials_in_a_host_are_refused_without_repeating_them():
    with pytest.raises(InvalidInput, match="security definition") as error:
        UrlTemplate("https://user:hunter2@a")
    assert "hunter2" not in str(error.value)


def test_the_address_that_is_shown_has_no_query():
    assert UrlTemplate("http://a", "/{x}?key=secret").shown == "http://a/{x}"


@pytest.mark.parametrize(
    ("path", "url"), [("/a/b", "http://a/a/b"), ("/a/{x}/b", "http://a/a/"), ("/a/b-{x}", "http://a/a/")]
)
def test_a_ping_goes_as_far_as_there_are_no_parameters(path, url):
    assert UrlTemplate("http://a", path).for_ping() == url
