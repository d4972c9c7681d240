import pytest

from headrace_workers.features.knowledge.converting import html_to_markdown


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<h2>A &amp; B</h2><p>one\n two<br>three</p>", "## A & B\n\none two\n\nthree"),
        ("<ul><li>one<li>two</ul>", "- one\n\n- two"),
        ("<ul><li><p>one</p></li></ul>", "- one"),
        ("<p>so <b>b</b>old</p>", "so bold"),
        ("<pre>a\n  b</pre>", "```\na\n  b\n```"),
        ("<pre>```\n</pre>", "````\n```\n````"),
        ("<p># no heading</p>", "\\# no heading"),
        ("<h1>Title<a>¶</a></h1>", "# Title"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a\n\nb"),
        ("text alone", "text alone"),
        ("<p>never closed <b>at all", "never closed at all"),
        ("</p></div>x", "x"),
        ("", ""),
    ],
)
def test_blocks(html: str, text: str) -> None:
    """Headings, lists, code and paragraphs, in broken pages too."""
    assert html_to_markdown(html) == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>hidden()</script>",
        "<style>hidden {}</style>",
        "<!-- hidden -->",
        "<head><title>hidden</title></head>",
        "<nav><div>hidden</div></nav>",
        "<div role=navigation>hidden<div>hidden</div>hidden</div>",
        "<p hidden>hidden</p>",
        "<p hidden>hidden",
        "<span aria-hidden=true>hidden</span>",
        '<div style="color: red; display : none">hidden</div>',
        '<span style="font-size:0">hidden</span>',
        '<span style="visibility:hidden">hidden</span>',
        "<input hidden>",
    ],
)
def test_what_nobody_sees_is_left_out(hidden: str) -> None:
    assert html_to_markdown(f"<p>before</p>{hidden}<p>after</p>") == "before\n\nafter"


def test_what_is_small_is_seen() -> None:
    assert html_to_markdown('<p style="font-size: 0.8em">small</p>') == "small"


def test_the_main_part_is_the_page() -> None:
    assert html_to_markdown("<div>menu</div><div role=main><div>a</div>b</div>footer") == "a\n\nb"
    assert html_to_markdown("<main></main><p>text") == "text"
