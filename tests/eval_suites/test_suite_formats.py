"""Every suite reads its exact format, asks what it should, and names what is wrong with other files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from eval_suites import registry
from eval_suites.benchmarks import geneval
from eval_suites.suite import Data
from redraft.errors import InputError

_spec = importlib.util.spec_from_file_location("exact_formats", Path(__file__).with_name("exact_formats.py"))
assert _spec is not None
assert _spec.loader is not None
formats = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(formats)

READING = [name for name in registry.SUITES["pictures from prompts"] if registry.load_suite(name).needs_data]


def loaded(name: str, root: Path, variant: str | None = None) -> Data:
    formats.WRITERS[name](root)
    suite = registry.load_suite(name)
    return suite.load(root, variant or suite.variants[0])


def asked(data: Data, index: int) -> list[str]:
    return [question.check.question for question in data.items[index].questions]


@pytest.mark.parametrize("name", READING)
def test_every_suite_reads_its_format_and_keeps_pictures_apart(name: str, tmp_path: Path) -> None:
    data = loaded(name, tmp_path)
    suite = registry.load_suite(name)
    assert data.items
    assert all(item.prompt for item in data.items)
    assert all(file.is_file() for file in data.files)
    assert any("published" in note for note in data.notes), "three prompts are not the published set"
    places = [suite.place(item, k) for item in data.items for k in range(4)]
    assert len(set(places)) == len(places)
    assert all(not place.startswith("/") and ".." not in place for place in places)


@pytest.mark.parametrize("name", list(registry.SUITES["pictures from prompts"]))
def test_what_is_measured_never_passes_for_the_official_score(name: str) -> None:
    told = registry.load_suite(name).measure
    assert any(word in told for word in ("not ", "Not ", "no metric", "None of", "instead of"))


@pytest.mark.parametrize("name", READING)
def test_a_wrong_folder_says_what_is_wanted_and_from_where(name: str, tmp_path: Path) -> None:
    suite = registry.load_suite(name)
    (tmp_path / "holiday.png").write_bytes(b"x")
    with pytest.raises(InputError) as error:
        suite.load(tmp_path, suite.variants[0])
    assert suite.source in str(error.value)
    with pytest.raises(InputError):
        suite.load(tmp_path / "nowhere", suite.variants[0])


def test_geneval_asks_its_requirements(tmp_path: Path) -> None:
    data = loaded("geneval", tmp_path)
    assert asked(data, 0) == ["Are there exactly three knives?"]
    assert asked(data, 1) == ["Is there a red kite?"]
    assert asked(data, 2) == ["Is there an apple?", "Are there skis?", "Are the skis to the left of the apple?"]
    assert geneval.place(data.items[2], 1) == "00002/samples/00001.png"
    geneval.finish(tmp_path / "made", data.items, 1)
    assert json.loads((tmp_path / "made" / "00000" / "metadata.jsonl").read_text()) == formats.GENEVAL[0]


@pytest.mark.parametrize(
    ("noun", "many"),
    [
        ("bus", "buses"),
        ("bench", "benches"),
        ("computer mouse", "computer mice"),
        ("teddy bear", "teddy bears"),
        ("berry", "berries"),
        ("toy", "toys"),
        ("sheep", "sheep"),
        ("red knife", "red knives"),
        ("person", "people"),
    ],
)
def test_plurals(noun: str, many: str) -> None:
    assert geneval.plural(noun) == many


def test_key_points_are_normalised_and_unknown_ones_kept(tmp_path: Path) -> None:
    data = loaded("t2i-keypoints", tmp_path)
    points = [q.check.key_point for item in data.items for q in item.questions]
    assert points == ["counting", "negation", "counting", "没听说过的考点"]
    assert "三" not in asked(data, 1)[0]
    assert "两只纸鹤" in asked(data, 1)[0]
    assert [item.prompt for item in loaded("t2i-keypoints", tmp_path, "zh").items] == ["两只纸鹤停在窗台上"]


def test_parti_takes_a_lone_quotation_mark_for_what_it_is(tmp_path: Path) -> None:
    data = loaded("partiprompts", tmp_path)
    assert data.items[0].prompt == 'a sign that says "tea'
    assert data.items[2].tags == {"category": ("Animals",), "challenge": ("Quantity",)}


def test_dpg_follows_its_graph_and_its_prompt_files(tmp_path: Path) -> None:
    data = loaded("dpg-bench", tmp_path)
    assert [question.needs for question in data.items[0].questions] == [(), (0,), (0, 1)]
    assert data.items[0].prompt == "the long text of barn, with a comma"
    (tmp_path / "prompts").mkdir()
    for name in ("barn", "7"):
        (tmp_path / "prompts" / f"{name}.txt").write_text(f"drawn from {name}\n")
    with pytest.raises(InputError, match=r"'9', but there is no .*9\.txt"):
        registry.load_suite("dpg-bench").load(tmp_path, "")
    (tmp_path / "prompts" / "9.txt").write_text("drawn from 9")
    assert registry.load_suite("dpg-bench").load(tmp_path, "").items[0].prompt == "drawn from barn"


def test_dpg_names_a_dependency_that_is_not_there(tmp_path: Path) -> None:
    formats.table(tmp_path / "dpg_bench.csv", [formats.DPG[0], formats.DPG[2]])
    with pytest.raises(InputError, match=r"proposition 3 of barn depends on \[2\]"):
        registry.load_suite("dpg-bench").load(tmp_path, "")


def test_geneval2_knows_which_answer_is_right(tmp_path: Path) -> None:
    first = loaded("geneval2", tmp_path).items[0]
    assert [question.wanted for question in first.questions] == [True, True, False]
    assert '"two"' in first.questions[0].check.question
    assert first.tags == {"atoms": ("04",)}


def test_unigenbench_in_both_languages(tmp_path: Path) -> None:
    english = loaded("unigenbench", tmp_path).items[0]
    assert [q.check.key_point for q in english.questions][1:] == ["counting", "negation"]
    assert 'picture: "ink painting"?' in english.questions[0].check.question
    formats.table(tmp_path / "test_prompts_zh.csv", formats.UNI_ZH)
    chinese = registry.load_suite("unigenbench").load(tmp_path, "zh").items[0]
    assert (chinese.id, chinese.prompt, len(chinese.questions)) == ("5", "水墨画，两只狐狸", 2)


def test_tiif_pairs_prompts_and_questions_line_by_line(tmp_path: Path) -> None:
    long = loaded("tiif-bench", tmp_path, "testmini_long").items[0]
    assert long.prompt == "On a shelf, two red jugs."
    assert [question.wanted for question in long.questions] == [True, False]
    assert registry.load_suite("tiif-bench").place(long, 0) == "color+count/redraft/long_description/0.png"
    formats.lines(tmp_path / "testmini_eval_prompts" / "color+count_eval_prompts.jsonl", formats.TIIF_ASKED * 2)
    with pytest.raises(InputError, match=r"has 1 lines, .* has 2"):
        registry.load_suite("tiif-bench").load(tmp_path, "testmini_short")


def test_compbench_says_which_categories_are_missing(tmp_path: Path) -> None:
    data = loaded("t2i-compbench", tmp_path)
    assert [item.tags["category"][0] for item in data.items] == ["color", "color", "numeracy"]
    assert any("no shape" in note for note in data.notes)
    assert registry.load_suite("t2i-compbench").place(data.items[1], 3) == "color/samples/a red white kite_000003.png"


def test_genai_bench_from_json_and_from_parquet(tmp_path: Path) -> None:
    item = loaded("genai-bench", tmp_path).items[0]
    assert (item.id, item.tags["skill"]) == ("00000", ("comparison", "attribute"))
    rows = [{"Index": 3, "Prompt": "a fox", "Tags": {"basic": ["scene"], "advanced": []}}]
    formats.parquet(tmp_path / "hub" / "data" / "train.parquet", rows)
    other = registry.load_suite("genai-bench").load(tmp_path / "hub", "").items[0]
    assert (other.id, other.prompt, other.tags["skill"]) == ("3", "a fox", ("scene",))


def test_magicbench_hangs_everything_on_the_subject(tmp_path: Path) -> None:
    smith, jug = loaded("magicbench", tmp_path).items
    assert [question.needs for question in smith.questions] == [(), (0,), (0,), (0,)]
    assert smith.questions[1].check.key_point == "human_anatomy"
    assert jug.questions[1].check.key_point == "object_morphology"


@pytest.mark.parametrize(
    ("name", "file", "text", "wrong"),
    [
        ("geneval", "evaluation_metadata.jsonl", '{"tag": "x"}\n', r"jsonl:1: .*'prompt'"),
        ("geneval", "evaluation_metadata.jsonl", '{"tag": "x", "prompt": "p", "include": [{"count": 1}]}\n', "'class'"),
        ("geneval", "evaluation_metadata.jsonl", "not json\n", "not JSON"),
        ("geneval", "evaluation_metadata.jsonl", "", "no records"),
        ("partiprompts", "PartiPrompts.tsv", "Prompt,Category\na,b\n", "'Category' is missing"),
        ("partiprompts", "PartiPrompts.tsv", "Prompt\tCategory\tChallenge\n", "no entries"),
        ("drawbench", "DrawBench_Prompts.csv", "Prompts,Category\na,b,c\n", "more cells than the header"),
        ("dpg-bench", "dpg_bench.csv", "item_id,text\nx,y\n", r"csv:2: field 'proposition_id' is missing"),
        ("unigenbench", "test_prompts_en.csv", "index,prompt_en,sub_dims_en\n1,p,{\n", "not JSON"),
        ("wise", "x_verified.json", "{}", "not a list"),
        ("wise", "x_verified.json", '[{"Prompt": "p", "Explanation": ""}]', "entry 1: field 'Explanation' is empty"),
        ("genai-bench", "genai_image.json", "{}", "genai_skills.json"),
        ("magicbench", "subject_prompt800.jsonl", '{"class": "plant", "subject": "x"}\n', "'plant', not human"),
        ("geneval2", "geneval2_data.jsonl", '{"prompt": "p", "vqa_list": [["a", "b"]], "skills": []}\n', "go in pairs"),
    ],
)
def test_bad_files_are_named_by_line_and_field(name: str, file: str, text: str, wrong: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    suite = registry.load_suite(name)
    with pytest.raises(InputError, match=wrong):
        suite.load(tmp_path, suite.variants[0])


def test_text_in_another_encoding_is_said_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "PartiPrompts.tsv").write_bytes("Prompt\tCategory\tChallenge\nKäse\tA\tB\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        registry.load_suite("partiprompts").load(tmp_path, "")


def test_an_unknown_suite_lists_those_there_are() -> None:
    with pytest.raises(InputError, match="geneval"):
        registry.load_suite("geneva")


def test_oneig_follows_its_dependencies_and_leaves_out_what_has_no_questions(tmp_path: Path) -> None:
    data = loaded("oneig", tmp_path)
    assert [item.id for item in data.items] == ["anime-000", "object-001"], "text rendering has no questions"
    assert [question.needs for question in data.items[0].questions] == [(), (0,)]
    assert asked(data, 1) == ["Is there a fox?", "Is it red?"], "questions may be JSON in a text"


def test_oneig_names_a_prompt_without_questions(tmp_path: Path) -> None:
    formats.WRITERS["oneig"](tmp_path)
    (tmp_path / "scripts" / "alignment" / "Q_D" / "object.json").write_text(
        '{"007": {"question": {}, "dependency": {}}}'
    )
    with pytest.raises(InputError, match="prompt 001 of General_Object"):
        registry.load_suite("oneig").load(tmp_path, "en")


def test_dreambench_has_other_prompts_for_live_subjects(tmp_path: Path) -> None:
    data = loaded("dreambench", tmp_path)
    assert [item.prompt for item in data.items] == ["a cat wearing a red hat", "a teapot in the snow", "a red teapot"]
    assert data.items[0].row["references"] == [str(tmp_path / "dataset" / "cat2" / "00.jpg")]
    (tmp_path / "dataset" / "teapot" / "00.jpg").unlink()
    with pytest.raises(InputError, match="no pictures of the subject 'teapot'"):
        registry.load_suite("dreambench").load(tmp_path, "")


def test_realbench_numbers_the_lines(tmp_path: Path) -> None:
    assert [item.id for item in loaded("realbench", tmp_path).items] == ["1", "2"]


def test_finecapeval_looks_for_the_words_of_phrases(tmp_path: Path) -> None:
    rows = [
        {
            "image": "a.jpg",
            "caption": "c",
            "background": "a snowy field",
            "object": "two dogs\\;a ball",
            "relation": "dogs run",
        },
        {"image": "a.jpg", "caption": "c", "background": "hills", "object": "dog", "relation": "chasing a ball"},
        {"image": "b.jpg", "caption": "c", "background": "", "object": "dog", "relation": "none"},
    ]
    formats.table(tmp_path / "FineCapEval.csv", rows)
    from eval_suites.benchmarks.finecapeval import load, recall

    data = load(tmp_path)
    assert [item.picture for item in data.items] == ["a.jpg"], "rows with an empty field do not count"
    assert data.items[0].phrases["object"] == ("two dogs", "a ball", "dog")
    assert recall("One dog runs.", ("two dogs", "a dog running")) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert recall("One dog runs.", ()) is None
    formats.table(tmp_path / "FineCapEval.csv", [{**rows[0], "image": "../a.jpg"}])
    with pytest.raises(InputError, match="not the name of a file"):
        load(tmp_path)
