"""The self-contained cache of stage 1: points, voxels, labels and CLIP features, partition by partition."""
