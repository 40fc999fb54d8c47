"""Judges of checks: the words in which a check is put to one, how a probability becomes a verdict, and `open_judge`.

    judge = open_judge(load_profile("mini").judge)
    [verdict] = await judge(image, "two red stars", [Check("counting", "Are there exactly two red stars?")])

A judge style is a folder of templates. `judge.txt` is the text after the picture: `{{question}}`, and if wanted
`{{fenced_request}}`, `{{key_point}}` and `{{definition}}`. What is the same for all checks of a picture comes first and
the question last, so that servers and the in-process judge compute the shared part once. If `judge.txt` uses
`{{definition}}`, `structural.txt` is added to the definition of key points that malformed bodies count against.
`explain.txt`, with the same placeholders, asks for a reason in JSON; only judges that explain read it. If it also
has `{{units}}`, which says what the numbers of a box are, it asks for the region that the reason is about.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from evaluator.keypoints import find_keypoint
from evaluator.types import Check, Judge, Outcome, Verdict
from redraft.errors import ConfigError
from redraft.profiles import GrounderConfig, JudgeConfig, PartConfig, load_part
from redraft.templates import fence, fill, load_template, placeholders

YES_NO = ("yes", "no")


class CheckWording:
    """The text in which a check is put to a judge. Raises ConfigError if the style's template cannot be used."""

    def __init__(self, style: str, template: str = "judge") -> None:
        self._template = load_template("evaluator", style, template)
        self._wanted = placeholders(self._template)
        others = ["fenced_request", "key_point", "definition", *(["units"] if template == "explain" else [])]
        if "question" not in self._wanted or self._wanted - {"question", *others}:
            may = ", ".join(f"{{{{{name}}}}}" for name in others)
            raise ConfigError(
                f"{template}.txt of judge style {style!r} must have {{{{question}}}}, and may have {may}, "
                "but nothing else in double braces"
            )
        self._structural = load_template("evaluator", style, "structural") if "definition" in self._wanted else ""

    @property
    def points(self) -> bool:
        """Whether the template asks for a box, and says in which units."""
        return "units" in self._wanted

    def __call__(self, request: str, checks: Sequence[Check], units: str = "") -> tuple[str, ...]:
        """One text for each check, alike up to where the checks begin to differ."""
        fenced = fence(request)
        return tuple(self._fill(fenced, check, units) for check in checks)

    def _fill(self, fenced_request: str, check: Check, units: str) -> str:
        point = find_keypoint(check.key_point)
        definition = f"{point.definition} {self._structural}" if point.structural else point.definition
        values = {
            "question": check.question,
            "fenced_request": fenced_request,
            "key_point": point.name,
            "definition": definition,
            "units": units,
        }
        return fill(self._template, **{name: value for name, value in values.items() if name in self._wanted})


def scored_verdict(check: Check, yes: float, no: float, config: JudgeConfig, raw: str = "") -> Verdict:
    """The verdict from the probabilities, over the whole vocabulary, that the answer is yes and that it is no.

    SCORED with probability yes / (yes + no), calibrated; FAILED if yes + no is below `config.min_label_mass`, or if
    they are no numbers (NaN from a model in too low a precision, for example).
    """
    mass = yes + no
    if not math.isfinite(mass) or min(yes, no) < 0:
        return failed_verdict(check, f"the judge gave no usable probabilities (yes {yes}, no {no})", raw=raw)
    mass = min(mass, 1.0)
    if mass < config.min_label_mass or mass == 0:
        reason = f"the judge did not answer yes or no: together they had {mass:.3f} of the probability"
        return failed_verdict(
            check, f"{reason}, and min_label_mass is {config.min_label_mass:g}", label_mass=mass, raw=raw
        )
    probability = calibrated(yes / (yes + no), config.temperature)
    return Verdict(check, Outcome.SCORED, probability=probability, label_mass=mass, raw=raw)


def failed_verdict(check: Check, reason: str, *, label_mass: float | None = None, raw: str = "") -> Verdict:
    """The verdict if no answer could be had."""
    return Verdict(check, Outcome.FAILED, label_mass=label_mass, reason=reason, raw=raw)


def calibrated(p: float, temperature: float) -> float:
    """sigmoid(logit(p) / temperature) (temperature scaling, Guo et al. 2017); 0 and 1 stay what they are."""
    if temperature == 1.0 or not 0.0 < p < 1.0:
        return p
    logit = (math.log(p) - math.log1p(-p)) / temperature
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    return math.exp(logit) / (1.0 + math.exp(logit))


KEY_POINT = "orders_in_the_picture"
GUARD_AT = 0.5
REASON = "the picture bears writing that tells its judge how to answer"


class GuardedJudge:
    """Asks one more question with every picture, that of the style's `guard.txt`. If its answer is yes, every check
    FAILED: a picture that gives orders cannot be trusted to be seen for what it shows.

    If the checks themselves ask that question, the user wants such writing, and nothing is guarded. A guard without an
    answer lets the verdicts through. Raises ConfigError if the style has no guard.
    """

    def __init__(self, judge: Judge, style: str) -> None:
        self._judge = judge
        self.question = load_template("evaluator", style, "guard")

    @property
    def name(self) -> str:
        return f"guarded {self._judge.name}"

    async def __call__(self, image: Image.Image, request: str, checks: Sequence[Check]) -> list[Verdict]:
        if not checks or any(check.question == self.question for check in checks):
            return await self._judge(image, request, checks)
        verdicts = await self._judge(image, request, [*checks, Check(KEY_POINT, self.question)])
        guard = verdicts.pop()
        if guard.passes(GUARD_AT):
            return [
                failed_verdict(check, f"{REASON} (p={guard.probability:.2f})", raw=v.raw)
                for check, v in zip(checks, verdicts, strict=True)
            ]
        return verdicts


def open_judge(config: JudgeConfig, pass_at: float = 0.5, grounder: GrounderConfig | None = None) -> Judge:
    """The judge of `config`: in this process for kind "transformers", else through the chat model's server; with its second
    looks, and with its tools before it.

    `pass_at`: the checks below it are explained, if the judge explains. `grounder`: finds the region to zoom into, if the judge
    gives none.

    Raises ConfigError for a style or a key that cannot be used, ModelMissing if local weights are not there.
    """
    judge = _open(config, pass_at)
    if config.looks:
        judge = _look_again(judge, config, grounder)
    if config.tools:
        from evaluator.tools import ToolJudge, open_tools

        tools = open_tools(config.tools, config.detector)
        judge = ToolJudge(judge, tools) if tools else judge
    if config.guard:
        return GuardedJudge(judge, config.style)
    return judge


def _look_again(judge: Judge, config: JudgeConfig, grounder: GrounderConfig | None) -> Judge:
    from evaluator.grounding import open_grounder
    from evaluator.looks import Again, DescribingReader, Look, LooksAgain, SecondReader, Zoom, locate_by
    from redraft.chat import open_chat

    ways: list[Look] = []
    second = config.second
    if second is not None:
        if second.describer is None:
            reader: Judge = load_part(PartConfig(use=second.use or ""))()
        else:
            describer = open_chat(second.describer)
            answerer = describer if second.answerer is None else open_chat(second.answerer)
            reader = DescribingReader(describer, answerer, config)
        ways.append(SecondReader(reader, weight=second.weight, independence=second.independence))
    if config.zoom:
        if grounder is None and not config.explain:
            raise ConfigError(
                "zoom = true needs a place to look at: explain = true, or a [grounder] in the profile; give one of them"
            )
        ways.append(Zoom(judge, None if grounder is None else locate_by(open_grounder(grounder))))
    if config.again:
        ways.append(Again(judge, times=config.again))
    return LooksAgain(judge, ways, most=config.looks)


def _open(config: JudgeConfig, pass_at: float) -> Judge:
    if config.model.kind == "transformers":
        from evaluator.local_judge import TransformersJudge

        return TransformersJudge(config)
    from evaluator.server_judge import ServerJudge
    from redraft.chat import open_chat

    chat = open_chat(config.model)
    return ServerJudge(chat, config, explain=config.explain, coordinates=config.coordinates, pass_at=pass_at)
