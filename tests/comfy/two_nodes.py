"""A Ray cluster of two nodes on this machine: prints its address, and kills the second node when told to.

Run with a Python that has Ray; ends, and the cluster with it, when its standard input closes.
"""

from __future__ import annotations

import sys

from ray.cluster_utils import Cluster

SECOND = "127.0.0.2"  # as another machine has another address

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 0, "include_dashboard": False})
second = cluster.add_node(num_cpus=2, num_gpus=0, node_ip_address=SECOND)
cluster.wait_for_nodes()
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "kill":
        cluster.remove_node(second, allow_graceful=False)
        print("killed", flush=True)
cluster.shutdown()
