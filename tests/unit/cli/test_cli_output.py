import pytest

from junctor.cli import output
from junctor.cli.visible import visible


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (False, "no"),
        (None, ""),
        (7, "7"),
        (["a", True], "a, yes"),
        ("a\nb", "a b"),
        ("\x1b[1m", "\\x1b[1m"),
    ],
)
def test_values_are_shown_in_words(value, text):
    assert output.shown(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 B"), (1000, "1.0 kB"), (94_371_840, "94.4 MB"), (5e9, "5.0 GB")]
)
def test_sizes_have_units(count, text):
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (-5, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")]
)
def test_spans_of_time_have_units(seconds, text):
    assert output.duration(seconds) == text


def test_a_table_that_is_not_on_a_terminal_has_one_line_for_each_row(capsys):
    output.print_table(("Name", "Text"), [("[bold]a", "x" * 300), ("b", "")])
    assert capsys.readouterr().out.splitlines() == ["Name     Text", f"[bold]a  {'x' * 300}", "b"]


def test_directions_of_writing_cannot_be_changed_by_a_name():
    assert visible("a\u202eb\tc\n") == "a\\u202eb\tc\n"
