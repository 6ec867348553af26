"""`python -m ovps train` is `ovps train`, and how torchrun starts it: `torchrun --nproc-per-node 4 -m ovps train`."""

from ovps.cli import main

main()
