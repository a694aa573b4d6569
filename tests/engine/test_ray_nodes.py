"""A Ray cluster of several nodes (all on this machine): where actors land, and what happens when a node dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402
from ray_runs import at_close, ended, strike, where  # noqa: E402
from small_runs import seeded, small_recipe, train  # noqa: E402

from podlt.engine.ray.engine import RayEngine  # noqa: E402
from podlt.engine.ray.workplace import RayCluster  # noqa: E402
from podlt.errors import UsageError  # noqa: E402
from podlt.manager import events as ev  # noqa: E402
from podlt.verify import verify  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::podlt.engine.ray.workplace.TrustWarning")]

MEMORY = 100 * 2**20


@pytest.fixture
def nodes() -> Iterator[tuple[Cluster, list[Any]]]:
    """A head on which nobody trains, and two nodes on which two actors may."""
    ray.shutdown()
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": MEMORY, "include_dashboard": False},
    )
    others = [cluster.add_node(num_cpus=2, object_store_memory=MEMORY, resources={"training": 2}) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, others
    ray.shutdown()
    cluster.shutdown()


def test_a_node_that_dies_within_a_round_costs_nobody_anything(
    tmp_path: Path, nodes: tuple[Cluster, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, others = nodes
    seen: list[set[str]] = []

    def look(engine: RayEngine) -> None:
        seen.append({where(engine, host).node for host in range(2)})

    def fell(engine: RayEngine) -> None:
        look(engine)
        victim = next(node for node in others if node.node_id == where(engine, 0).node)
        cluster.remove_node(victim, allow_graceful=False)
        ended(engine, 0)

    strike(monkeypatch, "deal", 4, fell)
    at_close(monkeypatch, look)
    recipe = small_recipe(arithmetic="exact")
    place = RayCluster(resources={"training": 1.0}, processes=2)
    trained = train(tmp_path / "run", recipe, entropy=seeded(1), place=place)
    assert trained.of(ev.Replaced) and not trained.of(ev.Withdrawn)
    assert seen[0] == {node.node_id for node in others}, "one actor a node, and none on the head"
    assert len(seen[1]) == 1 and seen[1] < seen[0], "both on the node that is left"
    monkeypatch.undo()
    local = train(tmp_path / "local", recipe, entropy=seeded(1))
    assert trained.result.parameters == local.result.parameters
    assert verify(tmp_path / "run", jobs=1).ok


def test_stock_arithmetic_is_refused_where_there_are_several_machines(
    tmp_path: Path, nodes: tuple[Cluster, list[Any]]
) -> None:
    with pytest.raises(UsageError, match='a cluster needs arithmetic = "exact"'):
        train(tmp_path / "run", small_recipe(arithmetic="stock"), entropy=seeded(1), engine="ray")
