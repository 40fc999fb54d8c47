"""The world: scenes of cut-outs, how they are drawn, read, asked about and worded.

spec, scene = sample_pair(rng, "train")         # sampling: what is asked for, and a scene that shows it
image = draw(scene)                             # raster
oracle.read_scene(image)                        # oracle: the scene, read off the pixels
say(rng, spec).text                             # wording: "two tiny scarlet stars over a big disc, please"
"""
