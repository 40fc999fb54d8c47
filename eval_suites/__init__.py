"""`redraft eval`: benchmarks of pictures, of edits and of judges, and the tables of the mini world.

    suite = load_suite("geneval")
    options = EvalOptions(data=Path("geneval/prompts"), profile="workstation")
    figures = suite.run(Evaluation(suite, options, Path("runs/eval/geneval")))

`registry` has the suites, `benchmarks` a file for each; `runner` runs them all.
"""

from redraft.extras import explain_when_run

explain_when_run()
