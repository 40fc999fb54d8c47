"""Small files in each benchmark's exact format, written for these tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def table(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), path)


GENEVAL = [
    {
        "tag": "counting",
        "include": [{"class": "knife", "count": 3}],
        "exclude": [{"class": "knife", "count": 4}],
        "prompt": "a photo of three knives",
    },
    {"tag": "colors", "include": [{"class": "kite", "count": 1, "color": "red"}], "prompt": "a photo of a red kite"},
    {
        "tag": "position",
        "include": [{"class": "apple", "count": 1}, {"class": "skis", "count": 1, "position": ["left of", 0]}],
        "prompt": "a photo of a skis left of an apple",
    },
]

KEYPOINTS = [
    {
        "ind": 0,
        "language": "en",
        "prompt": "Three foxes read under a lamp, no cats.",
        "prompt_points": ["Counting", "Negation"],
        "prompt_points_des": ["three foxes", "no cats"],
    },
    {
        "ind": 1,
        "language": "zh",
        "prompt": "两只纸鹤停在窗台上",
        "prompt_points": ["属性-数量", "没听说过的考点"],
        "prompt_points_des": ["两只纸鹤", "停在窗台上"],
    },
]

PARTI = [
    {"Prompt": 'a sign that says "tea', "Category": "Artifacts", "Challenge": "Writing & Symbols", "Note": ""},
    {"Prompt": "a heron", "Category": "Animals", "Challenge": "Basic", "Note": "one word"},
    {"Prompt": "two herons", "Category": "Animals", "Challenge": "Quantity", "Note": ""},
]


def _dpg(item: str, number: int, needs: str, broad: str, question: str) -> dict[str, Any]:
    return {
        "item_id": item,
        "text": f"the long text of {item}, with a comma",
        "keywords": "",
        "proposition_id": number,
        "dependency": needs,
        "category_broad": broad,
        "category_detailed": "whole",
        "tuple": f"{broad} - whole (x)",
        "question_natural_language": question,
    }


DPG = [
    _dpg("barn", 1, "0", "entity", "Is there a barn?"),
    _dpg("barn", 2, "1", "attribute", "Is the barn red?"),
    _dpg("barn", 3, "1,2", "relation", "Does an owl sit on the red barn?"),
    _dpg("7", 1, "0", "entity", "Is there a boat?"),
    _dpg("9", 1, "0", "entity", "Is there a mill?"),
]

GENEVAL2 = [
    {
        "prompt": "two glass owls beside a jug",
        "atom_count": 4,
        "vqa_list": [
            ["How many owls are in the image?", "two"],
            ["Are the owls glass?", "Yes"],
            ["Are there any dogs in the image?", "No"],
        ],
        "skills": ["count", "attribute", "object"],
    },
    {"prompt": "a jug", "atom_count": 3, "vqa_list": [["Is there a jug?", "Yes"]], "skills": ["object"]},
    {"prompt": "a fox sleeps", "atom_count": 3, "vqa_list": [["Does the fox sleep?", "Yes"]], "skills": ["verb"]},
]

UNI_EN = [
    {
        "index": 0,
        "prompt_en": "Ink painting, two foxes without hats",
        "sub_dims_en": json.dumps(
            {
                "Primary Categories": "Art",
                "Secondary Categories": "Plane Art",
                "Subjects": "Animal",
                "Sentence Structure": "Descriptive",
                "Testpoints": ["Style", "Attribute - Quantity", "Grammar - Negation"],
                "Testpoint Description": ['"ink painting"', "two foxes", "without hats"],
            }
        ),
    }
]
UNI_ZH = [
    {
        "index": 5,
        "prompt_zh": "水墨画，两只狐狸",
        "sub_dims_zh": json.dumps(
            {
                "一级垂类": "艺术",
                "二级垂类": "平面艺术",
                "主体": "动物",
                "句式": "描述式",
                "考点": ["风格", "属性-数量"],
                "考点对应描述": ["水墨画", "两只狐狸"],
            },
            ensure_ascii=False,
        ),
    }
]

DRAW = [
    {"No.": 1, "Prompts": "a green jug and a blue fox", "Category": "Colors "},
    {"No.": 2, "Prompts": "five jugs", "Category": "Counting"},
]

TIIF = [{"type": "color+count", "short_description": "Two red jugs.", "long_description": "On a shelf, two red jugs."}]
TIIF_ASKED = [
    {
        "type": "color+count",
        "yn_question_list": ["Are there two jugs?", "Is a jug blue?"],
        "yn_answer_list": ["yes", "no"],
    }
]

WISE = [
    {
        "Prompt": "The bird that brings babies",
        "Explanation": "a stork",
        "Category": "Cultural knowledge",
        "Subcategory": "Tales",
        "prompt_id": 1,
    },
    {
        "Prompt": "Water at -5 degrees",
        "Explanation": "the water is ice",
        "Category": "Natural Science",
        "Subcategory": "Physics",
        "prompt_id": 801,
    },
]

MAGIC = [
    {"prompt_t2i": "A smith at work.", "subject": "smith", "class": "human", "detail_class": "human_single"},
    {"prompt_t2i": "A jug.", "subject": "jug", "class": "object", "detail_class": "object_single"},
]


def _tiif(root: Path) -> None:
    lines(root / "testmini_prompts" / "color+count_prompts.jsonl", TIIF)
    lines(root / "testmini_eval_prompts" / "color+count_eval_prompts.jsonl", TIIF_ASKED)


def _compbench(root: Path) -> None:
    (root / "color_val.txt").write_text("a green jug and a blue fox\n\na red/white kite\n")
    (root / "numeracy_val.txt").write_text("five jugs\n")


def _genai(root: Path) -> None:
    (root / "genai_image.json").write_text(
        json.dumps({"00000": {"prompt": "a fox taller than a jug", "models": {"m1": [1, 2, 2], "m2": [5, 4, 5]}}})
    )
    (root / "genai_skills.json").write_text(json.dumps({"comparison": ["00000"], "attribute": ["00000"]}))


WRITERS: dict[str, Callable[[Path], None]] = {
    "geneval": lambda root: lines(root / "evaluation_metadata.jsonl", GENEVAL),
    "t2i-keypoints": lambda root: parquet(root / "data" / "train-00000-of-00001.parquet", KEYPOINTS),
    "partiprompts": lambda root: (
        (root / "PartiPrompts.tsv").write_text(
            "Prompt\tCategory\tChallenge\tNote\n" + "".join("\t".join(row.values()) + "\n" for row in PARTI)
        )
        and None
    ),
    "dpg-bench": lambda root: table(root / "dpg_bench.csv", DPG),
    "geneval2": lambda root: lines(root / "geneval2_data.jsonl", GENEVAL2),
    "t2i-compbench": _compbench,
    "unigenbench": lambda root: table(root / "test_prompts_en.csv", UNI_EN),
    "drawbench": lambda root: table(root / "DrawBench_Prompts.csv", DRAW),
    "tiif-bench": _tiif,
    "wise": lambda root: (root / "culture_verified.json").write_text(json.dumps(WISE)) and None,
    "genai-bench": _genai,
    "magicbench": lambda root: lines(root / "subject_prompt800.jsonl", MAGIC),
}
"""Suite name to what writes its files into a folder."""


def _oneig(root: Path) -> None:
    table(
        root / "OneIG-Bench.csv",
        [
            {
                "category": "Anime_Stylization",
                "id": "000",
                "prompt_en": "a fox, ink style",
                "type": "T",
                "class": "anime",
            },
            {
                "category": "General_Object",
                "id": "001",
                "prompt_en": "two jugs on a shelf",
                "type": "T",
                "class": "None",
            },
            {
                "category": "Text_Rendering",
                "id": "000",
                "prompt_en": 'a sign that says "OPEN"',
                "type": "T",
                "class": "",
            },
        ],
    )
    folder = root / "scripts" / "alignment" / "Q_D"
    folder.mkdir(parents=True)
    asked = {"question": {"1": "Is there a fox?", "2": "Is it red?"}, "dependency": {"1": [0], "2": [1]}}
    (folder / "anime.json").write_text(json.dumps({"000": asked}))
    (folder / "anime_zh.json").write_text(json.dumps({"000": asked}))
    texts = {name: json.dumps(value) for name, value in asked.items()}
    (folder / "object.json").write_text(json.dumps({"001": texts}))


def _dreambench(root: Path) -> None:
    from PIL import Image

    (root / "dataset").mkdir(parents=True)
    (root / "dataset" / "prompts_and_classes.txt").write_text(
        "Classes\n\nsubject_name,class\ncat2,cat\nteapot,teapot\n\nPrompts\n\nObject Prompts\n\nprompt_list = [\n"
        "'a {0} {1} in the snow'.format(unique_token, class_token),\n'a red {0} {1}'.format(unique_token, class_token)\n]\n"
        "\nLive Subject Prompts\n\nprompt_list = [\n'a {0} {1} wearing a red hat'.format(unique_token, class_token)\n]\n"
    )
    for name in ("cat2", "teapot"):
        (root / "dataset" / name).mkdir()
        Image.new("RGB", (8, 8), "red").save(root / "dataset" / name / "00.jpg")


WRITERS |= {
    "oneig": _oneig,
    "realbench": lambda root: (root / "prompt.txt").write_text("a street at dusk\n\na portrait of a baker\n") and None,
    "dreambench": _dreambench,
}
