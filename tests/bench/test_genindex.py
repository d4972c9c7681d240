from pathlib import Path

from bench.genindex import questions

PAGE = """<ul><li><a href="not-the-index.html">menu</a></li></ul>
<table class="indextable"><tr><td><ul>
  <li><a href="library/base64.html#b16">b16decode() (in module base64)</a>
</li>
  <li>
    error

      <ul>
        <li><a href="library/codecs.html#1">handler&#39;s
 name</a>, <a href="library/io.html#2">[1]</a>
</li>
      </ul></li>
  <li><a href="library/base64.html#other">b16decode() (in module base64)</a></li>
</ul></td></tr></table>
<ul><li><a href="footer.html">end</a></li></ul>"""


def test_entries_become_questions(tmp_path: Path) -> None:
    (tmp_path / "genindex-B.html").write_text(PAGE)
    (tmp_path / "genindex-Symbols.html").write_text(PAGE.replace("error", "+"))
    assert questions(tmp_path) == {
        "b16decode() (in module base64)": {"library/base64.html"},
        "error: handler's name": {"library/codecs.html", "library/io.html"},
    }
