"""The generator: flow matching over scene vectors, in a diffusers pipeline.

pipe = CutoutsPipeline.from_pretrained("mini/weights/generator")
image = pipe("two small red stars above blue circle, one blue circle below red stars").images[0]
"""
