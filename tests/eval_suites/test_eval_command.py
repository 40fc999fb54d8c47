"""`redraft eval` from its command line, with the mini models where something has to be drawn or judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from agent.cli import app
from agent.cli import main as run
from eval_suites.command import main
from eval_suites.registry import ALL
from eval_suites.runner import EvalOptions
from redraft.errors import BackendError, InputError

GENEVAL = [
    {
        "tag": "counting",
        "include": [{"class": "star", "count": 2}],
        "exclude": [{"class": "star", "count": 3}],
        "prompt": "two little scarlet stars",
    },
    {"tag": "colors", "include": [{"class": "circle", "count": 1, "color": "blue"}], "prompt": "a blue disc"},
    {
        "tag": "position",
        "include": [{"class": "heart", "count": 1}, {"class": "square", "count": 1, "position": ["above", 0]}],
        "prompt": "a square above a heart",
    },
]


def test_eval_lists_its_suites_and_needs_no_models_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    told = capsys.readouterr().out
    assert all(name in told for name in ALL)
    assert "https://github.com/djghosh13/geneval" in told


def test_eval_is_a_command_of_redraft() -> None:
    found = CliRunner().invoke(app, ["eval", "--help"])
    assert found.exit_code == 0
    assert "redraft eval" in found.output
    assert "--loop" in found.output


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (["geneva"], "there is no suite 'geneva'"),
        (["geneval"], "needs --data, the files from https://github.com/djghosh13/geneval"),
        (["geneval", "--data", ".", "--judge", "pairwise"], "no use for --judge; it takes .*--images"),
        (["mj-bench", "--data", ".", "--loop", "--images", "2"], "no use for --images, --loop"),
        (["wise", "--data", ".", "--variant", "old"], "no part 'old'; there are verified, legacy"),
        (["cutouts", "--data", "."], "cutouts has no use for --data; it takes --profile, --limit"),
        (["cutouts", "--report-profile", "mini"], "no use for --report-profile"),
        (["cutouts", "--variant", "train"], "no part 'train'; there are no parts"),
        (["gedit-bench", "--data", "."], "give the folder they lie in as --pictures"),
    ],
)
def test_mistakes_on_the_command_line_are_named(arguments: list[str], wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=wrong):
        main([*arguments, "--out", str(tmp_path / "out")])


def test_the_command_that_repeats_a_run_leaves_out_what_is_usual() -> None:
    options = EvalOptions(data=Path("my data"), best=False, loop=True, both_orders=False)
    assert options.command("geneval", Path("o")) == (
        "redraft eval geneval --data 'my data' --no-best --loop --one-order --out o"
    )


DOWN = """
[rewriter]
style = "package:mini/rewriter/style"
model = { kind = "transformers", model = "package:mini/weights/rewriter" }
[generator]
kind = "diffusers"
model = "package:mini/weights/generator"
[judge]
model = { kind = "openai", model = "m", server = { base_url = "http://127.0.0.1:9/v1", max_retries = 0 } }
"""


def test_where_nothing_could_be_measured_the_exit_says_so_and_the_report_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "down.toml"
    profile.write_text(DOWN)
    (tmp_path / "evaluation_metadata.jsonl").write_text(json.dumps(GENEVAL[1]) + "\n")
    given = tmp_path / "given" / "00000" / "samples"
    given.mkdir(parents=True)
    for name in ("00000.png", "00001.png"):
        Image.new("RGB", (32, 32), "blue").save(given / name)
    arguments = ["geneval", "--data", str(tmp_path), "--profile", str(profile), "--images", "2"]
    with pytest.raises(SystemExit) as ended:
        run(["eval", *arguments, "--pictures", str(tmp_path / "given"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 3
    told = capsys.readouterr().err
    assert "error: nothing could be measured: The judge failed on 2 of 2 answers" in told
    assert "127.0.0.1:9" in told
    assert "The judge failed on 2 of 2" in (tmp_path / "out" / "report.md").read_text()

    pairs = tmp_path / "pairs.jsonl"
    row = {"prompt": "blue", "chosen": "given/00000/samples/00000.png", "rejected": "given/00000/samples/00001.png"}
    pairs.write_text(json.dumps(row) + "\n")
    arguments = ["pairs", "--data", str(pairs), "--profile", str(profile), "--no-attacks"]
    for judge in ("pairwise", "pointwise", "likert", "words"):
        with pytest.raises(BackendError, match=r"nothing could be measured: .*127\.0\.0\.1:9"):
            main([*arguments, "--judge", judge, "--out", str(tmp_path / judge)])
        assert (tmp_path / judge / "report.html").is_file()
    (given / "00001.png").write_bytes((given / "00001.png").read_bytes()[:40])
    with pytest.raises(InputError, match=r"00001\.png is no picture of a known kind"):
        main([*arguments, "--out", str(tmp_path / "torn")])


@pytest.mark.integration
def test_a_suite_with_the_mini_models_and_its_second_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluation_metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in GENEVAL))
    out = str(tmp_path / "out")
    arguments = ["geneval", "--data", str(tmp_path), "--images", "2", "--loop", "--out", out, "--json"]
    main(arguments)
    figures = json.loads(capsys.readouterr().out)
    assert figures["measure"].startswith("GenEval: ")
    assert "not GenEval's own score" in figures["measure"]
    assert list(figures["conditions"]) == ["raw", "raw_best", "rewritten", "rewritten_best", "loop"]
    assert any("One judge both chose and reports" in note for note in figures["notes"])
    for row in figures["conditions"].values():
        assert (row["items"], row["items_failed"]) == (3, 0)
        assert row["pictures_per_item"] <= 2
    page = (tmp_path / "out" / "report.html").read_text()
    assert figures["measure"].replace("'", "&#39;") in page
    with Image.open(tmp_path / "out" / "images" / "loop" / "00000" / "samples" / "00000.png") as picture:
        assert picture.size == (256, 256)
    book = (tmp_path / "out" / "state" / "journal.jsonl").read_text()
    main(arguments)
    assert json.loads(capsys.readouterr().out) == figures
    assert (tmp_path / "out" / "state" / "journal.jsonl").read_text() == book, "a second call pays for nothing"
    with pytest.raises(InputError, match=r"other settings \(.*images\)"):
        main([*arguments[:4], "1", *arguments[5:]])
    with (tmp_path / "evaluation_metadata.jsonl").open("a") as file:
        file.write(json.dumps(GENEVAL[0] | {"prompt": "two red stars"}) + "\n")
    with pytest.raises(InputError, match=r"evaluation_metadata\.jsonl changed since"):
        main(arguments)


@pytest.mark.integration
def test_the_mini_judge_on_pairs_of_cutouts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["cutouts-pairs", "--variant", "24", "--limit", "4", "--out", str(tmp_path / "out"), "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"]["pairs"] == 4
    assert figures["accuracy"]["failed"] == 0
    assert len(figures["attacks"]) == 2
    for row in figures["attacks"].values():
        assert list(row) == ["as used", "without defences", "guarded"]
        assert 0 <= row["without defences"]["success"]["mean"] <= 1
    assert "not a published benchmark" in (tmp_path / "out" / "report.md").read_text().splitlines()[0]
