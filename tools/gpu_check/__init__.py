"""One call on a GPU machine: facts, agreement with the CPU, and measurements, in order of value. See docs/gpu.md.

python -m tools.gpu_check --minutes 9 --out build/gpu_check/out
"""
