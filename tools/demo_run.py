"""Pack a trained run as the demo run that ships with the package, and measure what float16 costs.

python -m tools.demo_run --run runs/driveworld/ovps-b12n4-s0-ac1fe745 --cache zarr/driveworld --commit d513887 \
    --command "make reproduce SYSTEMS=ovps"

A setting that is younger than the run is named with the value that means what the run did: `--set classifier.margin=0`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import yaml

from driveworld.demo_run import AS_THEY_ARE, PROVENANCE, Provenance, folder, pack, unpack
from ovps.files import write_whole
from ovps.training.run import load_run
from ovps.training.run_files import CONFIG, LAST
from pipelines.evaluate import evaluate

GROUPS = ("all", "base", "novel", "novel/things", "novel/stuff")


def with_settings(run: Path, out: Path, added: dict[str, float]) -> None:
    """Copy a run, as far as it is needed, with settings that its config does not have yet."""
    for name in (*AS_THEY_ARE, LAST):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, out / name)
    config = yaml.safe_load((out / CONFIG).read_text(encoding="utf-8"))
    for key, value in added.items():
        place, _, name = key.rpartition(".")
        (config[place] if place else config)[name] = value
    (out / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def scores(run: Path, cache: Path, out: Path) -> dict[str, float]:
    """PQ in percent by group."""
    result = evaluate(run, cache, out=out)
    found = result.system.panoptic.groups
    return {name: round(100 * found[name].pq, 2) for name in GROUPS if name in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="store that the run is scored on")
    parser.add_argument("--commit", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=folder())
    args = parser.parse_args()

    added = {key: float(value) for key, _, value in (item.partition("=") for item in args.settings)}
    with tempfile.TemporaryDirectory() as folder_name:
        work = Path(folder_name)
        trained, shipped = work / "trained", work / "shipped"
        with_settings(args.run, trained, added)
        sha256 = pack(trained, args.out)
        known = Provenance(
            run=args.run.resolve().name,
            commit=args.commit,
            command=args.command,
            step=load_run(trained).step,
            added_settings=added,
            sha256=sha256,
            pq={},
        )
        write_whole(args.out / PROVENANCE, (known.model_dump_json(indent=2) + "\n").encode())
        unpack(shipped, args.out)
        pq = {
            "float32": scores(trained, args.cache, work / "of-trained"),
            "float16": scores(shipped, args.cache, work / "of-shipped"),
        }
    known = known.model_copy(update={"pq": pq})
    write_whole(args.out / PROVENANCE, (known.model_dump_json(indent=2) + "\n").encode())
    print(known.model_dump_json(indent=2))


if __name__ == "__main__":
    main()
