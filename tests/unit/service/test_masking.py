"""server/service/masking.py"""

from junctor.server.service.masking import masked


def test_values_of_secrets_are_masked_at_any_depth():
    message = {"password": "p", "a": [{"api-key": "k", "name": "n"}], "mine": "m", "t": ("x",)}
    assert masked(message, frozenset(("mine",))) == {
        "password": "******",
        "a": [{"api-key": "******", "name": "n"}],
        "mine": "******",
        "t": ["x"],
    }
    assert message["password"] == "p"


def test_what_is_shown_is_bounded():
    deep = value = {}
    for _ in range(100):
        value["a"] = value = {}
    assert str(masked(deep)).count("a") == 21
    assert len(masked("x" * 10_000)) == 2_000
    assert len(masked(list(range(1000)))) == 100
    assert len(masked(dict.fromkeys(range(1000)))) == 100
