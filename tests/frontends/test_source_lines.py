"""The author's statements and the names they assign."""

import textwrap

import pytest

from porter.frontends.source_lines import assigned_names, statement_at

SOURCE = textwrap.dedent(
    """\
    def forward(self, x):
        h = self.conv(x)
        q, k = x.split(2)
        q, self.k, (a, b) = f(x)
        h += 1
        h: int = 3
        x = y = h
        h[0] = x
        long = (
            x +
            h
        )
        if (n := x): m = n
        return h
        s = h + 1; t = h
    """
)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("source") / "net.py"
    path.write_text(SOURCE)
    return str(path)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (1, ()),
        (2, ("h",)),
        (3, ("q", "k")),
        (4, ("q", "_", "_")),
        (5, ("h",)),
        (6, ("h",)),
        (7, ()),
        (8, ()),
        (9, ("long",)),
        (11, ("long",)),
        (13, ("m",)),
        (14, ()),
        (15, ()),  # a line can't tell which
        (99, ()),
    ],
)
def test_names_that_a_line_assigns(file, line, names):
    assert assigned_names(file, line) == names


def test_there_is_no_statement_in_a_file_that_is_not_there(tmp_path):
    assert statement_at(str(tmp_path / "missing.py"), 1) is None


def test_there_is_no_statement_in_what_is_not_python(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def (")
    assert statement_at(str(path), 1) is None
