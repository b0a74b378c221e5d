"""Training on a Ray cluster: machines may come, go and fail while a study runs.

Make a cluster with Ray's own commands, then name it; the last command is given on one of its machines::

    export RAY_AUTH_MODE=token               # on every machine, before any of the others
    ray get-auth-token --generate            # on one; copy ~/.ray/auth_token to the others
    ray start --head --port=6379             # on one; with --num-cpus=0 if it shall not train
    ray start --address=HEAD:6379            # on every other, now or while a study runs
    hotlap train RECIPE --seeds 100 --address HEAD:6379

A cluster without tokens runs whatever anybody sends who can reach it; older releases of Ray know no tokens, and skip
the first two lines. Without an address Ray is started on this machine alone, and ended with the study. Every node
needs the same versions of Python, Ray and hotlap. A node fetches data sets into its own cache; a folder of the user's
own must be there under the same path. A study ends with the head of its cluster; what has come in is stored by then.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

from hotlap.bench.executors import Job, Settings
from hotlap.bench.executors.pull import JobSource, naming
from hotlap.bench.executors.worker import train_job
from hotlap.datasets.download import reach
from hotlap.datasets.spec import Limits, SourceError
from hotlap.errors import HotlapError, InputError
from hotlap.recipe import Recipe
from hotlap.result import Run

_LOOK_S = 1.0
"""Seconds between two looks at which nodes are there, while no run finishes."""

_CONNECT_S = 5.0
"""Seconds that the name look-up has, and then the head of a cluster to answer."""


@dataclass(frozen=True)
class RayExecutor:
    """Trains in the workers of a Ray cluster.

    A process that has initialised Ray itself is left connected, and what it is connected to is used.

    Args:
        address: ``HOST:PORT`` of a running cluster, or ``auto`` for one on this machine; None starts Ray here.
        threads: threads of one operation in each worker, and the CPUs it takes up in the cluster.
        device: ``auto``, ``cpu`` or ``cuda``; auto trains on GPUs if the cluster has any, one for each worker.
        workers: most runs at once; None for as many as the nodes of the moment hold.

    Raises:
        InputError: one of these cannot be.
    """

    address: str | None = None
    threads: int = 1
    device: str = "auto"
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.threads < 1 or (self.workers is not None and self.workers < 1):
            raise InputError(f"workers and threads are at least 1, not {self.workers} and {self.threads}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(
                f"Ray chooses the GPU of each worker; {self.device!r} cannot be asked for",
                "use --device auto, cpu or cuda",
            )

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
        """Train jobs as workers get free; see ``Executor``. Runs come with ``timing_valid`` false.

        Raises:
            InputError: Ray is not installed, the cluster cannot be reached, or none of its nodes can hold a worker.
            HotlapError: a recipe cannot be trained, or workers are lost again and again.
        """
        with self._connected() as ray:
            needs = self._needs(ray)
            remote = ray.remote(_train)

            def start(job: Job, node: str) -> Any:
                task = remote.options(
                    num_cpus=self.threads,
                    num_gpus=needs.get("GPU", 0),
                    # A job whose worker is lost is sent out anew from here.
                    max_retries=0,
                    scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False),
                )
                device = "cuda" if "GPU" in needs else "cpu"
                return task.remote(job.recipe.to_dict(), job.seed, asdict(job.settings), device, self.threads)

            yield from self._train_all(ray, JobSource(jobs), needs, start)

    def _train_all(
        self, ray: ModuleType, source: JobSource, needs: Mapping[str, int], start: Callable[[Job, str], Any]
    ) -> Iterator[Run]:
        """Keep the nodes of the moment busy until there are no more jobs."""
        # A result counts only through its reference here: what comes late for a job taken as lost is never seen.
        in_flight: dict[Any, tuple[Job, str]] = {}
        waiting: Job | None = None
        try:
            while True:
                slots = _slots(ray, needs)
                # Ray itself waits for minutes on a node that vanished without closing its connections.
                for reference in [ref for ref, (_, node) in in_flight.items() if node not in slots]:
                    source.lost([in_flight.pop(reference)[0]], "its node is gone")
                # With nothing in flight a job is drawn even where no node is free, to see whether there is one.
                while (node := self._free(slots, in_flight.values())) or not in_flight:
                    waiting = waiting or source.draw(len(in_flight))
                    if node is None or waiting is None:
                        break
                    in_flight[start(waiting, node)] = waiting, node
                    waiting = None
                if not in_flight:
                    if waiting is None:
                        return
                    time.sleep(_LOOK_S)
                    continue
                ready, _ = ray.wait(list(in_flight), num_returns=1, timeout=_LOOK_S)
                for reference in ready:
                    job, _ = in_flight.pop(reference)
                    try:
                        with naming(job):
                            document = _result(ray, reference)
                    except _LostError as lost:
                        source.lost([job], str(lost))
                        continue
                    yield Run.from_dict({**document, "recipe": job.recipe})
                    source.finished()
        finally:
            for reference in in_flight:
                ray.cancel(reference, force=True)

    def _needs(self, ray: ModuleType) -> dict[str, int]:
        """Return what a worker takes up, by Ray's name of the resource."""
        present = ray.cluster_resources()
        needs = {"CPU": self.threads}
        if self.device == "cuda" or (self.device == "auto" and present.get("GPU", 0) >= 1):
            needs["GPU"] = 1
        if not any(_slots(ray, needs).values()):
            wanted = " and ".join(f"{count} {name}" for name, count in needs.items())
            has = ", ".join(f"{present.get(name, 0):g} {name}" for name in needs)
            raise InputError(
                f"no node of the cluster has {wanted} for a worker (all of them together: {has})",
                "add a node with: ray start --address=HEAD:PORT, or ask for less with --threads or --device cpu",
            )
        return needs

    def _free(self, slots: Mapping[str, int], in_flight: Collection[tuple[Job, str]]) -> str | None:
        """Return the node with the most room for one more run; None when there is none."""
        if self.workers is not None and len(in_flight) >= self.workers:
            return None
        taken = Counter(node for _, node in in_flight)
        room = {node: count - taken[node] for node, count in slots.items()}
        best = max(room, key=room.__getitem__, default=None)
        return best if best is not None and room[best] > 0 else None

    @contextmanager
    def _connected(self) -> Iterator[ModuleType]:
        """Connect to the cluster for the block; a cluster that was started for it is ended with it."""
        ray = _import_ray()
        if self.address is None and ray.is_initialized():
            yield ray
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if self.address not in (None, "auto"):
            _check_reachable(ray, self.address)
        try:
            if self.address is None:
                from hotlap.engine.environment import available_cores

                # "local", because the environment may name a cluster to join.
                cores = max(available_cores(), self.threads)
                ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
            else:
                ray.init(address=self.address, **quiet)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            where = "on this machine" if self.address is None else f"at {self.address}"
            raise InputError(
                f"cannot use Ray {where}: {' '.join(str(error).split())}",
                "see if it runs: ray status; a cluster that wants a token is joined with RAY_AUTH_MODE=token",
            ) from None
        try:
            yield ray
        finally:
            ray.shutdown()


def _import_ray() -> ModuleType:
    """Import Ray so that it prints nothing on stdout, which carries results.

    Raises:
        InputError: it is not installed.
    """
    # Whatever ``log_to_driver`` says, Ray prints what happens to nodes and workers, but for lines that this matches.
    # It is read when Ray is imported; where the user's own program has done that, the user's choice holds.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")
    try:
        import ray
    except ImportError:
        raise InputError("training on a cluster needs Ray", "pip install 'hotlap[ray]'") from None
    return ray


class _LostError(Exception):
    """A worker ended before its run; the text says why."""


def _result(ray: ModuleType, reference: Any) -> dict[str, Any]:
    """Return what a worker gave, or raise what it raised.

    Raises:
        _LostError: the worker, its node or its result is gone.
        HotlapError: hotlap is missing on the worker's node.
    """
    errors = ray.exceptions
    try:
        document: dict[str, Any] = ray.get(reference)
    except errors.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, errors.RayError):
            raise _LostError(_first_line(cause)) from None
        if isinstance(cause, RuntimeError) and str(cause).startswith("The remote function failed to import"):
            raise HotlapError(
                "a node of the cluster cannot import hotlap", "install the same version of hotlap on every node"
            ) from None
        raise (cause if isinstance(cause, Exception) else error) from None
    except errors.RayError as error:
        # Everything else of Ray's is about workers, nodes and their memory, never about the recipe.
        raise _LostError(_first_line(error)) from None
    return document


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _slots(ray: ModuleType, needs: Mapping[str, int]) -> dict[str, int]:
    """Return how many workers each node of the moment holds, by its id."""
    nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
    return {key: min(int(has.get(name, 0)) // count for name, count in needs.items()) for key, has in nodes.items()}


def _check_reachable(ray: ModuleType, address: str) -> None:
    """Make sure that a server of Ray's protocol listens there; Ray itself would try for minutes.

    Raises:
        InputError: not of the form ``HOST:PORT``, nothing answers, or something else than Ray does.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise InputError(f"{address} is no address of a Ray cluster", "give HOST:PORT of its head, or auto")
    # Ray listens on a machine's outward address only, and means that when it reads a loopback name.
    if host in ("localhost", "127.0.0.1"):
        host = ray.util.get_node_ip_address()
    try:
        if int(port) > 65535:
            raise ConnectionError("ports are numbers up to 65535")
        reach(host, int(port), Limits(resolve=_CONNECT_S, connect=_CONNECT_S))
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S) as connection:
            # Ray speaks HTTP/2, in which both sides begin with a frame of settings (type 4); its dashboard does not.
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            if os.environ.get("RAY_USE_TLS") != "1" and connection.recv(9)[3:4] != b"\x04":
                raise ConnectionError("what listens there is not the head of a cluster")
    except (OSError, SourceError) as error:
        raise InputError(
            f"cannot reach Ray at {address}: {error}",
            "start a cluster with: ray start --head --port=6379, and give its HOST:PORT",
        ) from None


def _train(recipe: dict[str, Any], seed: int, settings: dict[str, Any], device: str, threads: int) -> dict[str, Any]:
    """Train in a worker of the cluster, from and to plain JSON types."""
    run = train_job(Recipe.from_dict(recipe), seed, Settings(**settings), device=device, threads=threads)
    return run.to_dict()
