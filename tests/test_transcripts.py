"""Everything that is refused is refused with one sentence, before any work. tests/transcripts/ has the sentences."""

import re
import sys

import pytest

from scripts.transcripts import FOLDER, prepare, replay

TRANSCRIPTS = {path.stem: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("text", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
@pytest.mark.usefixtures("remove_added_networks")
def test_a_refusal_is_the_sentence_that_was_approved(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["featviz.runtime.stream"], "load", lambda *_: pytest.fail("a network was loaded"))
    prepare()
    assert replay(text) == text


@pytest.mark.parametrize("text", TRANSCRIPTS.values(), ids=TRANSCRIPTS)
def test_each_command_has_one_line(text):
    answers = re.split(r"^(?:>>>|\$) .*\n", text, flags=re.MULTILINE)
    assert [answer for answer in answers if len(re.sub(r"^#.*\n|^\n", "", answer, flags=re.MULTILINE).splitlines()) > 1] == []
