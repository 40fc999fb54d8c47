"""The editor: edits of scenes, in a canonical language and in people's words, and a pipeline that carries them out.

pipe = CutoutsEditPipeline.from_pretrained("mini/weights/editor")
image = pipe("recolour small star to blue", image).images[0]
"""
