"""The planner that needs no model: the phrase book turns failed checks, or the user's words, into steps.

Deterministic: the same situation gets the same plan, as long as the judge gives the same answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from mini.phrasebook.phrases import Clause, Counting, load_phrases
from rewriter.plan import FailedQuestion, Look, Plan, Situation, Step, in_order, redraw_or_retry, repair_plan


class PhrasePlanner:
    """A Planner by the phrase book. `edit_from`: the share of questions that must be answered with yes for an edit to be worth
    more than a new picture."""

    def __init__(self, edit_from: float = 0.5) -> None:
        self._phrases = load_phrases()
        self._edit_from = edit_from

    async def __call__(self, situation: Situation, *, seed: int = 0) -> Plan:
        if situation.refused is not None:
            return self._again(situation, situation.refused)
        if situation.editing and not situation.done:
            return await asyncio.to_thread(self._as_told, situation)
        return await self._mend(situation)

    def join(self, instructions: Sequence[str]) -> str:
        return self._phrases.join(instructions)

    def _as_told(self, situation: Situation) -> Plan:
        """The user's own words, in steps."""
        clauses = self._phrases.read(situation.request)
        steps = self._steps(clauses, situation.faults)
        if len(steps) == 1 and not any(clause.loose for clause in clauses):
            # Nothing to take apart, so nothing to put in other words either.
            questions = tuple(fault.question for fault in situation.faults)
            steps = (replace(steps[0], instruction=situation.request, questions=questions),)
        count = "one step" if len(steps) == 1 else f"{len(steps)} steps"
        return Plan("edit", f"the instruction has {count}", steps)

    async def _mend(self, situation: Situation) -> Plan:
        total = len(situation.faults) + len(situation.passed)
        if not situation.faults:
            return redraw_or_retry(situation, "no single question says what is wrong")
        if not situation.editing and total and len(situation.passed) / total < self._edit_from:
            right = f"only {len(situation.passed)} of {total} questions are answered with yes"
            return redraw_or_retry(situation, f"{right}, so there is little to keep")
        clauses = [(fault, await self._mending(fault, situation.look)) for fault in situation.faults]
        unknown = [fault.question for fault, clause in clauses if clause is None]
        if unknown and not situation.editing:
            return redraw_or_retry(situation, f"no edit is known for {unknown[0]!r}")
        known = [(fault, clause) for fault, clause in clauses if clause is not None]
        told = await asyncio.to_thread(self._phrases.read, situation.request) if situation.editing else ()
        mending = self._together(known, told)
        steps = [
            _step(clause, tuple(fault.question for fault in faults), faults[0].region, f"Mends: {faults[0].question}")
            for clause, faults in mending
        ][: situation.edits_left]
        return repair_plan(situation, _linked(steps, [clause for clause, _ in mending]))

    def _together(
        self, known: Sequence[tuple[FailedQuestion, Clause]], told: Sequence[Clause]
    ) -> list[tuple[Clause, list[FailedQuestion]]]:
        """The instructions, each once, with all that they mend. What is missing though the user asked for it (`told`)
        is added as the user told it: what mends "is there a heart" is silent on its size and place."""
        missing = {clause.more for _, clause in known if clause.more is not None and clause.more[1] > 0}
        again = [(clause, self._asks(clause)) for clause in told if clause.more in missing]
        mending: dict[str, tuple[Clause, list[FailedQuestion]]] = {}
        for fault, clause in known:
            own = next((one for one, asks in again if one.more == clause.more or fault.question in asks), clause)
            mending.setdefault(own.canonical, (own, []))[1].append(fault)
        return list(mending.values())

    def _asks(self, clause: Clause) -> set[str]:
        """The questions that tell whether a clause was done, and those about the number that it changes."""
        counting = None if clause.more is None else self._phrases.counting(clause.more[0])
        return {question for _, question in clause.checks} | set(counting.asks if counting is not None else ())

    async def _mending(self, fault: FailedQuestion, look: Look | None) -> Clause | None:
        mending = self._phrases.mend(fault.question)
        if not isinstance(mending, Counting):
            return mending
        if look is None:
            return None
        answers = await look(mending.asks)
        seen = [(p, number) for number, p in enumerate(answers) if p is not None and number != mending.wanted]
        if not seen:
            return None
        difference = mending.wanted - max(seen)[1]
        several = mending.more if difference > 0 else mending.fewer
        if abs(difference) > len(several):
            return None
        return self._phrases.read(several[abs(difference) - 1])[0]

    def _again(self, situation: Situation, refused: Step) -> Plan:
        """A refused step in smaller parts or, if it has none, in the book's own words, or else as it was."""
        clauses = self._phrases.read(refused.instruction)
        if len(clauses) > 1:
            return Plan("edit", f"in {len(clauses)} smaller parts", self._steps(clauses, situation.faults))
        other = clauses[0].canonical if clauses[0].known else refused.instruction
        reason = "in other words" if other != refused.instruction else "the same words, drawn anew"
        return Plan("edit", reason, (replace(refused, instruction=other, after=()),))

    def _steps(self, clauses: Sequence[Clause], faults: Sequence[FailedQuestion]) -> tuple[Step, ...]:
        """A step for each clause; clauses that speak of the same thing stay together, because each names it as it is
        before all of them. Questions that no clause accounts for go with the last."""
        groups: list[list[Clause]] = []
        for clause in clauses:
            home = next((g for g in groups if any(_same_thing(clause, other) for other in g)), None)
            if home is None:
                groups.append([clause])
            else:
                home.append(clause)
        asked = [fault.question for fault in faults]
        homes = {question: self._home(question, groups) for question in asked}
        steps = []
        for number, group in enumerate(groups):
            questions = tuple(question for question in asked if homes[question] == number)
            whole = Clause(
                self._phrases.join([clause.canonical for clause in group]),
                known=all(clause.known for clause in group),
                local=all(clause.local for clause in group),
                draft=", ".join(clause.draft for clause in group if clause.draft),
            )
            steps.append(_step(whole, questions, None, ""))
        rest = tuple(question for question in asked if homes[question] is None)
        steps[-1] = replace(steps[-1], questions=steps[-1].questions + rest)
        return in_order(_linked(steps, [_joined(group) for group in groups]))

    def _home(self, question: str, groups: Sequence[Sequence[Clause]]) -> int | None:
        """Which of the groups a question is about, None if that cannot be told. Questions about the picture
        afterwards may call a thing otherwise than the instruction does."""
        exact = (n for n, group in enumerate(groups) if any(question in self._asks(clause) for clause in group))
        kind = (n for n, group in enumerate(groups) if any(self._phrases.speaks_of(c, question) for c in group))
        return next(exact, next(kind, None))


def _same_thing(one: Clause, other: Clause) -> bool:
    return bool(one.uses and other.uses) and (one.uses[0] in other.uses or other.uses[0] in one.uses)


def _joined(group: Sequence[Clause]) -> Clause:
    uses = tuple(thing for clause in group for thing in clause.uses)
    return Clause("", known=True, makes=" ".join(clause.makes for clause in group if clause.makes), uses=uses)


def _linked(steps: Sequence[Step], clauses: Sequence[Clause]) -> list[Step]:
    """The steps with `after` set if one speaks of what another brings into the picture."""
    linked = []
    for index, step in enumerate(steps):
        uses = clauses[index].uses
        after = [i for i in range(len(steps)) if i != index and clauses[i].makes and clauses[i].makes in uses]
        linked.append(replace(step, after=tuple(after)))
    return linked


def _step(
    clause: Clause, questions: tuple[str, ...], region: tuple[float, float, float, float] | None, why: str
) -> Step:
    return Step(clause.canonical, why, questions, region, clause.local, draft=clause.draft)
