"""A miniature world of paper cut-outs, with models of its own: a generator, an editor, a judge and a rewriter that were
trained here, whose weights are in `mini/weights`, and which run on two CPU cores.

    redraft draw "two little red stars over a big blue circle"      # the profile `mini`, redraft/profiles/mini.toml

Everything that knows cut-outs is in this package; the rest of redraft reaches it by the names in that profile.
"""

from redraft.extras import explain_when_run

explain_when_run()
