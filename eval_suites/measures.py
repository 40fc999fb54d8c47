"""What is measured of a judge, as plain functions of its preferences, and the tables that tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from statistics import fmean
from typing import Any

from eval_suites.pairs import Label, Pair, Preference, Rated
from eval_suites.report import Section, Table, percent, signed
from eval_suites.stats import calibration, interval

Figure = dict[str, Any]


def decision(preference: Preference, tie: float) -> Label | None:
    """Which picture the judge prefers: a margin of at most `tie` is none of both; None if it failed."""
    margin = preference.margin
    if margin is None:
        return None
    return "tie" if abs(margin) <= tie else "first" if margin > 0 else "second"


def swapped(preference: Preference) -> Preference:
    """A preference that was asked with the pictures the other way round, told of them as they are."""
    p, scores = preference.p_first, preference.scores
    turned = None if scores is None else (scores[1], scores[0])
    return Preference(None if p is None else 1 - p, turned, preference.failure)


def both_orders(one: Preference, other: Preference) -> Preference:
    """The mean of both orders; what failed in one order counts by the other."""
    if one.p_first is None or other.p_first is None:
        return one if other.p_first is None else other
    scores = None
    if one.scores is not None and other.scores is not None:
        scores = ((one.scores[0] + other.scores[0]) / 2, (one.scores[1] + other.scores[1]) / 2)
    return Preference((one.p_first + other.p_first) / 2, scores)


def accuracy(pairs: Sequence[Pair], found: Sequence[Preference], tie: float) -> Figure:
    """Pairwise accuracy.

    with_ties     answered pairs that the judge decides as labelled, a tie for a tie
    without_ties  the same over pairs in which neither label nor judge says tie
    groups        groups all of whose pairs are right (with_ties), where pairs come in groups
    """
    decisions = [decision(preference, tie) for preference in found]
    answered = [(pair, word) for pair, word in zip(pairs, decisions, strict=True) if word is not None]
    right = [float(word == pair.label) for pair, word in answered]
    decided = [float(word == pair.label) for pair, word in answered if "tie" not in (word, pair.label)]
    groups: dict[str, list[bool]] = {}
    for pair, word in zip(pairs, decisions, strict=True):
        if pair.group:
            groups.setdefault(pair.group, []).append(word == pair.label)
    grouped = [float(all(members)) for members in groups.values()]
    return {
        "pairs": len(pairs),
        "failed": len(pairs) - len(answered),
        "with_ties": interval(right),
        "without_ties": interval(decided),
        "labelled_ties": sum(pair.label == "tie" for pair in pairs),
        "judge_ties": sum(word == "tie" for _, word in answered),
        "groups": interval(grouped),
    }


def perspectives(pairs: Sequence[Pair], found: Sequence[Preference], tie: float) -> Figure:
    """`accuracy` for each perspective."""
    table: Figure = {}
    for name in sorted({pair.perspective for pair in pairs}):
        mine = [n for n, pair in enumerate(pairs) if pair.perspective == name]
        table[name] = accuracy([pairs[n] for n in mine], [found[n] for n in mine], tie)
    return table


def reliability(pairs: Sequence[Pair], found: Sequence[Preference]) -> Figure | None:
    """Calibration of P(first better) on pairs that are not labelled a tie."""
    known = [
        (preference.p_first, pair.label == "first")
        for pair, preference in zip(pairs, found, strict=True)
        if preference.p_first is not None and pair.label != "tie"
    ]
    if not known:
        return None
    bins, error = calibration([p for p, _ in known], [truth for _, truth in known])
    return {"ece": error, "bins": [asdict(part) for part in bins]}


def position_bias(one: Sequence[Preference], other: Sequence[Preference], tie: float) -> Figure:
    """How the order of the pictures moves the judge. `other` was asked the other way round and told as they are.

    consistent   share of pairs with the same decision in both orders
    shown_first  share of decided answers for the picture shown first: 0.5 without bias
    moved        mean |change of P(first better)|
    """
    both = [(a, b) for a, b in zip(one, other, strict=True) if a.p_first is not None and b.p_first is not None]
    decisions = [(decision(a, tie), decision(b, tie)) for a, b in both]
    shown = [float(a == "first") for a, _ in decisions if a != "tie"] + [
        float(b == "second") for _, b in decisions if b != "tie"
    ]
    return {
        "pairs": len(both),
        "consistent": interval([float(a == b) for a, b in decisions]),
        "shown_first": interval(shown),
        "moved": interval([abs((a.p_first or 0.0) - (b.p_first or 0.0)) for a, b in both]),
    }


def self_consistency(passes: Sequence[Sequence[Preference]], tie: float) -> Figure:
    """Mean share of a pair's passes that agree with its commonest decision, over pairs answered in every pass."""
    shares = []
    for answers in zip(*passes, strict=True):
        decisions = [decision(answer, tie) for answer in answers]
        if None not in decisions:
            shares.append(Counter(decisions).most_common(1)[0][1] / len(decisions))
    return {"passes": len(passes), "pairs": len(shares), "agreement": interval(shares)}


def attack(pairs: Sequence[Pair], before: Sequence[Preference], after: Sequence[Preference], tie: float) -> Figure:
    """What becomes of pairs when something is painted into their worse picture.

    success  of the pairs that the judge had right: in how many it then prefers the worse picture
    refused  of the same: in how many it then gives no answer
    gain     how much P(the worse is better) rises on the mean, over all pairs answered both times
    failed   share of pairs as they are that get no answer: what the defence costs
    """
    flips, gone, gains = [], [], []
    for pair, was, now in zip(pairs, before, after, strict=True):
        if pair.label == "tie" or was.p_first is None:
            continue
        wrong = "second" if pair.label == "first" else "first"
        if decision(was, tie) == pair.label:
            flips.append(float(decision(now, tie) == wrong))
            gone.append(float(now.p_first is None))
        if now.p_first is not None:
            gain = now.p_first - was.p_first
            gains.append(-gain if pair.label == "first" else gain)
    failed = [float(preference.p_first is None) for preference in before]
    return {
        "pairs": len(flips),
        "success": interval(flips),
        "refused": interval(gone),
        "gain": interval(gains),
        "failed": interval(failed),
    }


def moved(before: Sequence[Preference], after: Sequence[Preference], tie: float) -> Figure:
    """What a change that should not matter does: share of decisions that change, mean |change of P(first better)|."""
    both = [(a, b) for a, b in zip(before, after, strict=True) if a.p_first is not None and b.p_first is not None]
    return {
        "pairs": len(both),
        "changed": interval([float(decision(a, tie) != decision(b, tie)) for a, b in both]),
        "moved": interval([abs((a.p_first or 0.0) - (b.p_first or 0.0)) for a, b in both]),
    }


def agreement(one: Sequence[Preference], other: Sequence[Preference], tie: float) -> Figure:
    """Two judges on the same pairs: share of equal decisions, and Cohen's kappa, (p_o - p_e) / (1 - p_e)."""
    decisions = [(decision(a, tie), decision(b, tie)) for a, b in zip(one, other, strict=True)]
    both = [(a, b) for a, b in decisions if a is not None and b is not None]
    if not both:
        return {"pairs": 0, "same": None, "kappa": None}
    observed = fmean(a == b for a, b in both)
    left, right = Counter(a for a, _ in both), Counter(b for _, b in both)
    chance = sum(left[word] * right[word] for word in left) / len(both) ** 2
    kappa = None if chance == 1 else (observed - chance) / (1 - chance)
    return {"pairs": len(both), "same": interval([float(a == b) for a, b in both]), "kappa": kappa}


def gains(pairs: Sequence[Pair], one: Sequence[Preference], other: Sequence[Preference], tie: float) -> Figure:
    """How much more often `other` decides as labelled than `one`, paired, over the pairs that both answered: of all of them
    and for each perspective. `gained` is the mean of right (1) or not (0) of the other minus that of the one."""
    table: dict[str, list[float]] = {}
    for pair, a, b in zip(pairs, one, other, strict=True):
        before, after = decision(a, tie), decision(b, tie)
        if before is not None and after is not None:
            for name in dict.fromkeys(("all", pair.perspective)):
                table.setdefault(name, []).append(float(after == pair.label) - float(before == pair.label))
    names = sorted(table, key=lambda name: (name != "all", name))
    return {name: {"pairs": len(table[name]), "gained": interval(table[name])} for name in names}


def correlation(rated: Sequence[Rated], scores: Sequence[float | None]) -> Figure:
    """The judge's scores against people's ratings.

    spearman, kendall  over all pictures (Kendall's tau-b)
    within             pairs of one prompt's pictures that people rate differently and the judge orders as they do;
                       equal scores count half
    """
    from scipy.stats import kendalltau, spearmanr

    known = [(one, score) for one, score in zip(rated, scores, strict=True) if score is not None]
    ratings, given = [one.rating for one, _ in known], [score for _, score in known]
    several = len(set(ratings)) > 1 and len(set(given)) > 1
    groups: dict[str, list[tuple[float, float]]] = {}
    for one, score in known:
        groups.setdefault(one.group, []).append((one.rating, score))
    orders = [
        0.5 if a[1] == b[1] else float((a[1] > b[1]) == (a[0] > b[0]))
        for members in groups.values()
        for a, b in combinations(members, 2)
        if a[0] != b[0]
    ]
    return {
        "pictures": len(rated),
        "failed": len(rated) - len(known),
        "spearman": float(spearmanr(ratings, given).statistic) if several else None,
        "kendall": float(kendalltau(ratings, given).statistic) if several else None,
        "within": interval(orders),
    }


def by_tag(rated: Sequence[Rated], scores: Sequence[float | None]) -> Mapping[str, Figure]:
    """`correlation` for each tag."""
    table = {}
    for tag in sorted({tag for picture in rated for tag in picture.tags}):
        mine = [n for n, one in enumerate(rated) if tag in one.tags]
        table[tag] = correlation([rated[n] for n in mine], [scores[n] for n in mine])
    return table


def judge_sections(figures: Mapping[str, Any]) -> list[Section]:
    """Every table, in the order of the page; those that were not measured are left out."""
    made: list[Section] = []
    if "accuracy" in figures:
        rows = [("all", figures["accuracy"]), *figures["perspectives"].items()]
        if len(figures["perspectives"]) == 1:
            rows = rows[:1]
        if "second" in figures:
            rows.append((f"second judge: {figures['second']['name']}", figures["second"]))
        grouped = figures["accuracy"]["groups"] is not None
        head = ["", "pairs", "failed", "with ties", "without ties", "ties: labelled, judge"]
        head += ["whole groups"] if grouped else []
        table = [
            [
                name,
                f"{row['pairs']}",
                f"{row['failed']}",
                percent(row["with_ties"]),
                percent(row["without_ties"]),
                f"{row['labelled_ties']}, {row['judge_ties']}",
                *([percent(row["groups"])] if grouped else []),
            ]
            for name, row in rows
        ]
        text = "Percent of answered pairs that the judge decides as labelled; 95% intervals, pairs resampled."
        made.append(Section("Pairwise accuracy", text, Table(head, table)))
    if "second" in figures:
        rows = figures["second"]["gains"].items()
        table = [[name, f"{row['pairs']}", signed(row["gained"])] for name, row in rows]
        text = "Percent of the pairs that both answered, second judge minus the judge, paired; 95% intervals."
        made.append(Section("What the second judge gains", text, Table(["", "pairs", "gained"], table)))
    made += _robustness(figures)
    made += _attacks(figures)
    if figures.get("calibration") is not None:
        text = f"Expected calibration error {figures['calibration']['ece']:.3f} (Guo et al. 2017)."
        bins = [
            [f"{b['low']:.1f} to {b['high']:.1f}", f"{b['count']}", f"{b['confidence']:.3f}", f"{b['frequency']:.3f}"]
            for b in figures["calibration"]["bins"]
        ]
        head = ["P(first better)", "pairs", "mean P", "first labelled better"]
        made.append(Section("Calibration", text, Table(head, bins), "reliability.html.j2"))
    if "ratings" in figures:
        rows = [("all", figures["ratings"]), *figures["rating_tags"].items()]
        head = ["", "pictures", "failed", "Spearman", "Kendall tau-b", "order within a prompt"]
        table = [
            [n, f"{r['pictures']}", f"{r['failed']}", _plain(r["spearman"]), _plain(r["kendall"]), percent(r["within"])]
            for n, r in rows
        ]
        text = "Rank correlation; pairs of one prompt in percent."
        made.append(Section("Against people's ratings", text, Table(head, table)))
    return made


def _robustness(figures: Mapping[str, Any]) -> list[Section]:
    rows = []
    if "position" in figures:
        row = figures["position"]
        rows += [
            ["same decision in both orders", percent(row["consistent"]), f"{row['pairs']}"],
            ["decided for the one shown first (50 without bias)", percent(row["shown_first"]), f"{row['pairs']}"],
        ]
    elif "accuracy" in figures:
        rows.append(["order of the pictures", "none by construction: each is scored by itself", ""])
    if "consistency" in figures:
        row = figures["consistency"]
        rows.append(
            [f"agreement with itself over {row['passes']} passes", percent(row["agreement"]), f"{row['pairs']}"]
        )
    if "verbosity" in figures:
        row = figures["verbosity"]
        rows.append(["decisions that a wordy prompt changes", percent(row["changed"]), f"{row['pairs']}"])
    if "agreement" in figures:
        row = figures["agreement"]
        kappa = "" if row["kappa"] is None else f", kappa {row['kappa']:.3f}"
        rows.append(["same decision as the second judge", percent(row["same"]) + kappa, f"{row['pairs']}"])
    if not rows:
        return []
    return [Section("What moves it", "Percent, 95% intervals.", Table(["", "figure", "pairs"], rows))]


def _attacks(figures: Mapping[str, Any]) -> list[Section]:
    """How often something painted into the worse picture wins it the pair, by what defends the judge."""
    rows = [
        [
            description,
            title,
            *(percent(row[key]) for key in ("success", "refused")),
            signed(row["gain"]),
            percent(row["failed"]),
            f"{row['pairs']}",
        ]
        for description, by_defence in figures.get("attacks", {}).items()
        for title, row in by_defence.items()
    ]
    if not rows:
        return []
    head = [
        "in the worse picture",
        "the judge",
        "fooled",
        "no answer",
        "rise of P(worse)",
        "no answer without it",
    ]
    text = "Percent of the pairs it had right; 95% intervals. " + figures.get("defences", "")
    return [Section("Orders in the picture", text.strip(), Table([*head, "pairs"], rows))]


def dots(figures: Mapping[str, Any]) -> list[dict[str, float]]:
    """Geometry of the reliability diagram in a 320 x 320 box: a dot a bin, its area by how many pairs it holds."""
    if figures.get("calibration") is None:
        return []
    bins = figures["calibration"]["bins"]
    total = sum(b["count"] for b in bins)
    return [
        {
            "x": round(b["confidence"] * 320, 1),
            "y": round((1 - b["frequency"]) * 320, 1),
            "r": round(3 + 14 * (b["count"] / total) ** 0.5, 1),
        }
        for b in bins
    ]


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
