import xml.etree.ElementTree as ET
from html.parser import HTMLParser

from headrace_workers.cli.pages import (
    Axis,
    Figure,
    Line,
    Mark,
    Section,
    Span,
    Table,
    histogram,
    intervals,
    lines,
    page,
    percent,
    plain,
)

X, Y = Axis("threshold", 0.7, 1.0, plain), Axis("", 0.0, 0.5, percent)
HOSTILE = "<script>alert('&')</script>"


def svg(figure: str) -> ET.Element:
    return ET.fromstring(figure[figure.index("<svg") : figure.index("</svg>") + 6])


def test_texts_of_a_page_steer_nothing():
    shown = page("a\x1b[2J\x9b", "<script>", [], [Section("t", words=["tab\tnext\nline"])])
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "tab\tnext\nline" in shown
    assert "Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri" in shown
    assert "<script" not in shown


def test_a_line_goes_through_its_points_and_leaves_out_what_is_not_there() -> None:
    drawn = svg(lines("t", X, Y, [Line("a", [(0.7, 0.0), (0.8, None), (1.0, 0.9)], [0.1, 0.2, 0.95])]))
    (line,) = drawn.findall("polyline")
    assert line.get("points") == "46.0,206.0 428.0,14.0"
    assert len(drawn.findall("circle")) == 2
    assert [element.text for element in drawn.iter("title")] == ["a: 0 % at 0.7", "a: 90 % at 1"]
    (band,) = drawn.findall("polygon")
    assert len((band.get("points") or "").split()) == 4


def test_marks_are_named() -> None:
    figure = lines("t", X, Y, [Line("a", [(0.7, 0.1)])], across=Mark(0.01, "bound"), down=Mark(0.9, "now"))
    texts = [element.text for element in svg(figure).iter("text")]
    assert {"bound", "now", "0.8", "20 %", "threshold"} <= set(texts)


def test_a_histogram_has_one_kind_above_and_the_other_below() -> None:
    figure = histogram("t", Axis("x", 0.0, 1.0, plain), [("right", [0.1, 0.1, 0.9]), ("wrong", [0.5, -3.0])], 10)
    bars = svg(figure).findall("rect")
    assert [bar.get("class") for bar in bars] == ["bar one", "bar one", "bar two", "bar two"]
    assert bars[0].find("title").text == "right: 66.7 % of 3 from 0.10 to 0.20"  # type: ignore[union-attr]
    assert float(bars[0].get("y") or 0) < float(bars[2].get("y") or 0)
    assert "right (3)" in figure
    assert svg(histogram("t", Axis("x", 0.0, 1.0, plain), [("right", []), ("wrong", [])])).findall("rect") == []


def test_intervals_stand_one_below_the_other() -> None:
    drawn = svg(intervals("t", X, [Span("a", 0.85, 0.8, 0.9), Span("b", 0.7, 0.2, 1.0)], down=[Mark(0.8, "zero")]))
    spans = [
        [point.split(",") for point in (element.get("points") or "").split()] for element in drawn.findall("polyline")
    ]
    assert [[at for at, _ in span] for span in spans] == [["173.3", "300.7"], ["46.0", "428.0"]]
    assert float(spans[0][0][1]) < float(spans[1][0][1])
    assert [element.text for element in drawn.iter("title")] == ["a: 0.85 (0.8 to 0.9)", "b: 0.7 (0.2 to 1)"]
    assert {"a", "b", "zero"} <= {element.text for element in drawn.iter("text")}


def test_marks_that_are_near_have_names_one_below_the_other() -> None:
    """Else nobody could read either."""
    drawn = svg(intervals("t", X, [Span("a", 0.85, 0.8, 0.9)], down=[Mark(0.8, "zero"), Mark(0.801, "margin")]))
    ups = [float(element.get("y") or 0) for element in drawn.iter("text") if element.text in ("zero", "margin")]
    assert ups[1] - ups[0] >= 12  # the height of a letter


def test_every_text_is_a_text() -> None:
    drawn = lines(HOSTILE, Axis(HOSTILE, 0.0, 1.0, plain), Y, [Line(HOSTILE, [(0.1, 0.1)])], down=Mark(0.5, HOSTILE))
    table = Table((HOSTILE, "n"), [(HOSTILE, "1"), ("b", "2")], right=("n",), chosen=(1,), tall=True)
    spans = intervals(HOSTILE, X, [Span(HOSTILE, 0.8, 0.7, 0.9)], down=[Mark(0.8, HOSTILE)])
    section = Section(HOSTILE, [HOSTILE], [drawn, spans], [table])
    made = page(HOSTILE, HOSTILE, [Figure(HOSTILE, HOSTILE, True)], [section])
    assert "<script" not in made
    assert "://" not in made
    assert made.count('class="chosen"') == 1
    Closed().feed(made)


def test_a_table_without_rows_says_so() -> None:
    assert "<p>None.</p>" in page("t", "a", [], [Section("s", tables=[Table(("a",), [])])])


class Closed(HTMLParser):
    """Raises where an element is closed that was not the last to be opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
