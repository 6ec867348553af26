"""Make the demo CLIP: render pictures, train on their crops and captions, evaluate on drive world.

    python -m driveworld.demo_clip render --out data/demo_clip
    python -m driveworld.demo_clip train --pictures data/demo_clip
    python -m driveworld.demo_clip evaluate

The shipped weights: 3,200 steps from random ones on 160 streets (seed 0; every class weighed alike then), after that

    python -m driveworld.demo_clip render --out data/demo_clip --scenes 240
    python -m driveworld.demo_clip train --pictures data/demo_clip --steps 14000 --seed 1 --start FIRST.safetensors

The model stands in for a CLIP trained on the internet. It is taught every class of drive world in 2D, the novel
ones included, but on other objects, textures, light and backgrounds than the world that is evaluated. The 3D model
never sees those labels.
"""
