"""One GRPO step of the mini rewriter, its rewrites drawn and judged in overlapping batches, against one by one.

    python benchmarks/grpo_step.py [--prompts 16] [--rewrites 8] [--steps 3]

Both ways train on the same prompts with the same seeds and a learning rate of 0, so that both score the same rewrites;
both draw and judge a rewrite that occurs twice once, and make each checklist once a step. The first step, which loads
the models, does not count. Each way runs in a process of its own, for its peak memory. Prints the median seconds of a
step and of its parts, the share of the step spent waiting for rewards, peak memory, the ratio, and how far the rewards
of both ways are apart at most.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from editors.backend import ImageTask, open_backend, render
from evaluator.reward import case_of, open_evaluator
from redraft.chat import ChatReply
from redraft.errors import RedraftError
from redraft.profiles import Profile, load_profile
from rewriter.reply import review
from rewriter.styles import load_style
from rewriter.train.data import style_and_rules
from rewriter.train.image_reward import ImageReward, RewardSample, RewardSettings, ScoredSample, Scores, Wish, seeds_of
from rewriter.train.rewards import format_term, intent_penalty

WAYS = ("batched", "one by one")


class OneByOne:
    """The reward as a plain loop: one picture drawn, then judged, then the next."""

    def __init__(self, profile: Profile) -> None:
        self._make_checklist, self._reward = open_evaluator(profile)
        self._backend = open_backend(profile.generator)
        _, self._rules = style_and_rules(profile.rewriter.style, profile.rewriter.target)
        self._settings = RewardSettings()

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        known: dict[tuple[str, str], float | None] = {}
        checklists: dict[str, Any] = {}
        scored = []
        for sample in samples:
            read = review(sample.request, ChatReply(sample.reply, truncated=sample.truncated), self._rules)
            form = format_term(sample.reply, readable=read.prompt is not None)
            if read.prompt is None:
                most = self._settings.penalty_most
                scored.append(ScoredSample(self._settings.format_weight * form - most, 0.0, form, None, penalty=most))
                continue
            key = (sample.request, read.prompt)
            if key not in known:
                if sample.request not in checklists:
                    checklists[sample.request] = await self._make_checklist(sample.request)
                task = ImageTask(read.prompt, seeds_of(sample.request, self._settings)[0])
                [image] = render(self._backend, [task])
                report = await self._reward.judge(image, case_of(sample.request, checklists[sample.request]))
                known[key] = None if report.failed else report.score
            aligned = known[key]
            penalty = intent_penalty(len(read.findings))
            reward = None if aligned is None else aligned + self._settings.format_weight * form - penalty
            scored.append(ScoredSample(reward, aligned, form, read.prompt, pictures=1))
        return Scores(tuple(scored), len(known), 0, 0, (), 0.0, 0.0, 0.0)

    async def draw(self, rewrites: Sequence[Wish]) -> list[Any]:
        return [None for _ in rewrites]

    def close(self) -> None:
        pass


class Batched:
    """`ImageReward` as the trainer has it, but with nothing remembered from step to step."""

    def __init__(self, profile: Profile) -> None:
        self._make_checklist, self._reward = open_evaluator(profile)
        self._backend = open_backend(profile.generator)
        _, self._rules = style_and_rules(profile.rewriter.style, profile.rewriter.target)
        judging = 2 * profile.judge.model.local.micro_batch
        self._settings = RewardSettings(batch_size=profile.generator.batch_size, judging=judging)

    async def __call__(self, samples: Sequence[RewardSample]) -> Scores:
        reward = ImageReward(self._backend, self._make_checklist, self._reward, self._rules, self._settings)
        try:
            return await reward(samples)
        finally:
            reward.close()

    async def draw(self, rewrites: Sequence[Wish]) -> list[Any]:
        return [None for _ in rewrites]

    def close(self) -> None:
        pass


class Timed:
    """A reward function that notes how long each of its calls took and what it gave."""

    def __init__(self, reward: Any) -> None:
        self.__name__ = "rewrite"
        self.reward = reward
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.given: list[list[float | None]] = []

    def __call__(self, **columns: Any) -> list[float | None]:
        started, used = time.perf_counter(), time.process_time()
        self.given.append(self.reward(**columns))
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - used)
        return self.given[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini", help="name or .toml file whose models reward")
    parser.add_argument("--model", default="package:mini/weights/rewriter", help="the rewriter that is trained")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--rewrites", type=int, default=8, help="rewrites of each prompt")
    parser.add_argument("--temperature", type=float, default=1.5)
    parser.add_argument("--steps", type=int, default=3, help="steps that count")
    parser.add_argument("--way", choices=WAYS, help="measure this way alone and print JSON")
    options = parser.parse_args()
    if min(options.prompts, options.steps) < 1 or options.rewrites < 2:
        parser.error("--prompts and --steps are at least 1, --rewrites at least 2")
    try:
        if options.way is not None:
            print(json.dumps(_measure(options)))
            return
    except RedraftError as error:
        raise SystemExit(f"grpo_step: {error}") from None
    figures = {way: _apart(way) for way in WAYS}
    print(f"{options.prompts} prompts of {options.rewrites} rewrites, {figures[WAYS[0]]['distinct']} of them distinct")
    print(f"{'':14}{'step':>9}{'rewards':>10}{'the rest':>10}{'waiting':>9}{'rewards, CPU':>15}{'peak':>10}")
    for way, one in figures.items():
        rest = one["step_s"] - one["reward_s"]
        share = one["reward_s"] / one["step_s"]
        seconds = f"{one['step_s']:7.2f} s{one['reward_s']:8.2f} s{rest:8.2f} s"
        print(f"{way:14}{seconds}{share:9.0%}{one['reward_cpu_s']:13.2f} s{one['peak_mib']:6.0f} MiB")
    fast, slow = figures[WAYS[0]], figures[WAYS[1]]
    print(f"ratio of the steps   {slow['step_s'] / fast['step_s']:6.2f}")
    print(f"ratio of the rewards {slow['reward_s'] / fast['reward_s']:6.2f}")
    print(f"ratio of their work  {slow['reward_cpu_s'] / fast['reward_cpu_s']:6.2f} (CPU seconds, on a busy machine)")
    pairs = [(a, b) for a, b in zip(fast["given"], slow["given"], strict=True) if a is not None and b is not None]
    print(f"largest difference of a reward: {max(abs(a - b) for a, b in pairs):.1e}")


def _apart(way: str) -> dict[str, Any]:
    """Measures one way in a process of its own."""
    done = subprocess.run([sys.executable, *sys.argv, "--way", way], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"grpo_step: measuring {way} failed")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from mini.rewriter.write_data import prompts
    from redraft.training import find_model
    from rewriter.train.data import RLRequest, rl_rows
    from rewriter.train.rewards import Shaper, ShapingArguments
    from rewriter.train.trl_reward import RewriteReward

    profile = load_profile(options.profile)
    source = Batched(profile) if options.way == WAYS[0] else OneByOne(profile)
    timed = Timed(RewriteReward(source, Shaper(ShapingArguments())))
    records = [RLRequest(row["request"]) for row in prompts(options.prompts, "train", seed=77)]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            max_steps=options.steps + 1,
            per_device_train_batch_size=options.prompts * options.rewrites,
            num_generations=options.rewrites,
            max_completion_length=224,
            temperature=options.temperature,
            learning_rate=0.0,
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        rows = rl_rows(records, load_style(profile.rewriter.style))
        trainer = GRPOTrainer(
            model=find_model(options.model), reward_funcs=timed, args=config, train_dataset=Dataset.from_list(rows)
        )
        trainer.train()
        steps = [entry["step_time"] for entry in trainer.state.log_history if "step_time" in entry]
    last = timed.reward.last
    distinct = {(reward.sample.request, reward.scored.prompt) for reward in last if reward.scored.prompt is not None}
    return {
        "step_s": median(steps[1:]),
        "reward_s": median(timed.seconds[1:]),
        "reward_cpu_s": median(timed.cpu_seconds[1:]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "distinct": len(distinct),
        "given": timed.given[-1],
    }


if __name__ == "__main__":
    main()
