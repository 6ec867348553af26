"""Make the demo CLIP: render pictures, train on their crops and captions, evaluate on drive world.

    python -m pipelines.demo_clip render --out data/demo_clip
    python -m pipelines.demo_clip train --pictures data/demo_clip
    python -m pipelines.demo_clip evaluate

The model stands in for a CLIP trained on the internet. It is taught every class of drive world in 2D, the novel
ones included, but on other objects, textures, light and backgrounds than the world that is evaluated. The 3D model
never sees those labels.
"""
