"""A host whose actors compute, until it is killed: says which processes there are, and waits. Not a test itself."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import conftest


def main() -> None:
    conftest.load_module("skyreels_v2", conftest.REPO / "__init__.py")
    import ray
    from test_cluster import alive, group_of, loaded, module, sample

    checkpoint = Path(sys.argv[1])
    one = sample(loaded(checkpoint))
    place = module("comfy.cluster.group").Place("", 2)
    model = module("comfy.cluster.remote").clustered(loaded(checkpoint), place)
    difference = float((sample(model) - one).abs().max())
    node = ray._private.worker._global_node
    daemons = [each.process.pid for kind in node.all_processes.values() for each in kind]
    told = {"actors": alive(model), "daemons": daemons, "difference": difference, "group": len(group_of(model).actors)}
    print("READY " + json.dumps(told), flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main()
