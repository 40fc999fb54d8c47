"""Training reads records exactly as the judge does, and its loss is of the probability that the judge reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from evaluator import judge, local_judge
from evaluator.judge import CheckWording
from evaluator.local_judge import VLM, TransformersJudge, load_vlm, verdict_logs
from evaluator.train import script, trainer
from evaluator.train.records import Judgement, PictureFile
from evaluator.train.trainer import IGNORED, Collator, Lessons, compute_losses
from evaluator.types import Check
from redraft.profiles import JudgeConfig, LocalConfig, ModelConfig
from tests.evaluator.random_vlm import save_random_qwen

PROMPT = "three red stars and a blue circle"
REASON = "The circle is red, not blue."


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl", "qwen3_vl"])
def config(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> JudgeConfig:
    family = request.param
    if family == "llava":
        folder = request.getfixturevalue("tiny_llava")
    else:
        folder = tmp_path_factory.mktemp(family)
        save_random_qwen(folder, [*request.getfixturevalue("questions"), REASON], family, spread=0.2)
    local = LocalConfig(device="cpu", trust_remote_code=family != "llava")
    model = ModelConfig(kind="transformers", model=str(folder), local=local)
    return JudgeConfig(model=model, min_label_mass=0.0)


@pytest.fixture(scope="module")
def vlm(config: JudgeConfig) -> VLM:
    return load_vlm(config.model)


@pytest.fixture
def records(tmp_path: Path, questions: tuple[str, ...]) -> list[Judgement]:
    """Pictures of different shapes, questions of different lengths."""
    found = []
    for i, question in enumerate(questions):
        path = tmp_path / f"{i}.png"
        Image.effect_noise((24 + 10 * i, 30), 80 + i).convert("RGB").save(path)
        found.append(Judgement(PictureFile(path, str(i)), PROMPT, Check("counting", question), i % 2 == 0))
    return found


def test_the_same_objects_serve_judging_and_training() -> None:
    assert script.CheckWording is local_judge.CheckWording is judge.CheckWording
    assert trainer.VLM is local_judge.VLM
    assert trainer.verdict_logs is local_judge.verdict_logs
    assert local_judge.YES_NO is judge.YES_NO


async def test_the_judge_and_the_loss_read_the_same_probability(
    config: JudgeConfig, vlm: VLM, records: list[Judgement]
) -> None:
    batch = Collator(vlm, CheckWording(config.style), reasons=True)(records)
    assert batch["labels"].tolist() == [[1], [0], [1], [0]]
    labels = batch.pop("labels")
    with torch.no_grad():
        logits = vlm.local.model(**batch, logits_to_keep=1).logits
        yes, no = (logs.exp() for logs in verdict_logs(vlm, logits[:, 0]))
    judge = TransformersJudge(config, shared_prefix=False)
    verdicts = [(await judge(one.picture.open(), one.request, [one.check]))[0] for one in records]
    await judge.aclose()
    assert [v.probability for v in verdicts] == pytest.approx((yes / (yes + no)).tolist(), abs=1e-5)
    assert [v.label_mass for v in verdicts] == pytest.approx((yes + no).tolist(), rel=1e-3)
    right = [v.probability if one.accept else 1 - v.probability for v, one in zip(verdicts, records, strict=True)]  # type: ignore[operator]
    told = compute_losses(vlm, logits, labels, 0.1)
    by_hand = [p * v.label_mass for p, v in zip(right, verdicts, strict=True)]  # type: ignore[operator]
    assert float(told["loss"]) == pytest.approx(-float(torch.tensor(by_hand).log().mean()), rel=1e-3)
    assert float(told["accuracy"]) == sum(p > 0.5 for p in right) / 4
    assert max(right) - min(right) > 0.01


def test_a_batch_holds_the_judges_own_tokens(config: JudgeConfig, vlm: VLM, records: list[Judgement]) -> None:
    wording = CheckWording(config.style)
    for one in records:
        [text] = wording(one.request, [one.check])
        asked = vlm.local.inputs([vlm.row(one.picture.open(), text)])
        batch = Collator(vlm, wording, reasons=True)([one])
        assert batch.keys() == asked.keys() | {"labels"}
        assert all(torch.equal(batch[name], value) for name, value in asked.items())


def test_a_reason_comes_behind_the_verdict_and_does_not_change_it(
    config: JudgeConfig, vlm: VLM, records: list[Judgement]
) -> None:
    wording = CheckWording(config.style)
    plain = Collator(vlm, wording, reasons=False)(records)
    mixed = [replace(one, reason=REASON) if i in (1, 2) else one for i, one in enumerate(records)]
    assert torch.equal(Collator(vlm, wording, reasons=False)(mixed)["input_ids"], plain["input_ids"])
    batch = Collator(vlm, wording, reasons=True)(mixed)
    labels = batch.pop("labels")
    said = vlm.local.tokenizer.encode(REASON, add_special_tokens=False)
    assert labels.shape == (4, len(said) + 2)
    assert labels[:, 0].tolist() == [1, 0, 1, 0]
    assert labels[1, 1:].tolist() == labels[2, 1:].tolist() == [*said, vlm.local.eos[0]]
    assert (labels[[0, 3], 1:] == IGNORED).all()
    assert batch["input_ids"].shape[1] == plain["input_ids"].shape[1] + len(said) + 1
    assert batch["input_ids"][1, plain["input_ids"].shape[1]] == vlm.no[0]
    assert batch["attention_mask"][0, plain["input_ids"].shape[1] :].sum() == 0
    plain.pop("labels")
    with torch.no_grad():
        alone = vlm.local.model(**plain, logits_to_keep=1).logits[:, 0]
        logits = vlm.local.model(**batch, logits_to_keep=labels.shape[1]).logits
    assert torch.allclose(logits[:, 0], alone, atol=1e-4)
    # The reason's loss by hand: each token from the position before it.
    logs = logits[1:3, 1:].log_softmax(-1)
    by_hand = -logs.gather(-1, labels[1:3, 1:, None]).mean()
    apart = compute_losses(vlm, logits, labels, 0.5)["loss"] - compute_losses(vlm, logits, labels, 0.0)["loss"]
    assert float(apart) == pytest.approx(0.5 * float(by_hand), rel=1e-4)


def test_a_reason_cannot_open_a_turn(config: JudgeConfig, vlm: VLM, records: list[Judgement]) -> None:
    end = vlm.local.tokenizer.eos_token
    batch = Collator(vlm, CheckWording(config.style), reasons=True)([replace(records[0], reason=f"yes {end} no")])
    assert batch["labels"][0].tolist().count(vlm.local.eos[0]) == 1


def test_lessons_are_the_records_in_order(records: list[Judgement]) -> None:
    data = Lessons(records)
    assert [data[i] for i in range(len(data))] == records
