"""What became of the jobs: kept over runs, held by one command, shown in a table; where a host's files are put."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from farm.results import Result, Results
from farm.table import table
from farm.talk import outcome, refusal
from farm.work import place_of
from wan_core.errors import InputError

ROOT = Path(__file__).parents[2]
DONE = Result("a", "finished", "vm:1", 1, 2.5, ["a/x.mp4"])
LOST = Result("b", "lost", "vm:2", 3, 0.0, [], "it lost 3 hosts")


def test_results_are_found_again_by_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "list.results.json"
    with Results(path) as results:
        run = results.run
        results.note("key-a", DONE)
        results.note("key-b", LOST)
    with Results(path) as results:
        assert results.run == run and results.by_key == {"key-a": DONE, "key-b": LOST}
        assert results.finished(["key-a", "key-b", "key-c"]) == {"key-a"}


def test_one_command_at_a_time_works_on_a_list_and_one_that_died_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "list.results.json"
    code = (
        "import sys; from pathlib import Path; from farm.results import Results\n"
        "with Results(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline().strip() == "held"
        with pytest.raises(InputError, match="Another command works on this list"):
            Results(path)
        other.kill()
        other.wait()
    with Results(path):
        pass


@pytest.mark.parametrize("text", ["", "[]", '{"run": 1}', '{"run": "x", "jobs": {"a": {"name": "a"}}}', "{"])
def test_a_file_that_is_none_of_ours_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.results.json"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match="isn't a file of results"):
        Results(path)
    assert path.read_text("utf-8") == text


def test_the_table_has_a_line_for_every_job_and_the_sentence_of_those_that_failed() -> None:
    lines = table([DONE, LOST]).splitlines()
    assert [line.split() for line in lines[::2]] == [
        ["job", "state", "host", "tries", "seconds", "outputs"],
        ["a", "finished", "vm:1", "1", "2.5", "a/x.mp4"],
        ["it", "lost", "3", "hosts"],
    ]
    assert lines[3].split() == ["b", "lost", "vm:2", "3", "0.0", "-"]


@pytest.mark.parametrize(
    ("subfolder", "filename", "place"),
    [
        ("job/video", "x.mp4", "job/video/x.mp4"),
        ("", "x.mp4", "job/x.mp4"),
        ("other", "x.mp4", "job/other/x.mp4"),
        ("../../etc", "../x.mp4", "job/etc/x.mp4"),
        ("/etc/./..", "..", "job/etc/file"),
        ("..\\a", "b\\c.mp4", "job/a/c.mp4"),
    ],
)
def test_a_host_puts_no_file_outside_its_job_s_folder(subfolder: str, filename: str, place: str) -> None:
    assert place_of(Path("out"), "job", {"subfolder": subfolder, "filename": filename}) == Path("out") / place


def test_why_a_prompt_was_refused_is_one_sentence_with_the_nodes() -> None:
    error = {"message": "Value -3 smaller than min of 1", "details": "steps"}
    errors = {"5": {"class_type": "SkyReelsV2Sampler", "errors": [error]}}
    said = "SkyReelsV2Sampler (5): Value -3 smaller than min of 1: steps"
    assert refusal({"error": {"message": "Prompt outputs failed validation"}, "node_errors": errors}) == said
    assert refusal({"error": {"message": "no\nprompt", "details": ""}, "node_errors": {}}) == "no prompt"
    assert refusal({}) == "ComfyUI refused the prompt"


def test_what_became_of_a_prompt_is_read_from_the_history() -> None:
    def ended(status: str, *messages: tuple[str, dict[str, str]], **outputs: object) -> dict[str, object]:
        return outcome({"status": {"status_str": status, "messages": [*messages]}, "outputs": outputs})

    files = [{"filename": "x.mp4", "subfolder": "a", "type": "output"}]
    preview = [{"filename": "p.png", "subfolder": "", "type": "temp"}]
    both = {"images": files, "animated": [True], "gifs": files}
    assert ended("success", n1=both, n2={"images": preview, "text": ["plain"]}) == {
        "state": "finished", "sentence": "", "outputs": files,
    }  # fmt: skip
    error = {"node_type": "SkyReelsV2LongVideo", "node_id": "4", "exception_message": "The disk\nis full"}
    failed = ended("error", ("execution_error", {**error, "exception_type": "x.JournalError"}))
    assert failed == {"state": "failed", "sentence": "SkyReelsV2LongVideo (4): The disk is full"}
    assert ended("error", ("execution_error", {**error, "exception_type": "x.y.JobHeldError"}))["state"] == "held"
    assert ended("error", ("execution_interrupted", {}))["state"] == "stopped"
