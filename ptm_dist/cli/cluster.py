"""Verbs under the noun cluster: a file to start from, a look at what a job needs, and the files that set a cluster up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ptm_dist.cli.words import out

cluster_app = typer.Typer(no_args_is_help=True, help="Describe a cluster, check it, and write the files that set it up.")

FileArgument = Annotated[Path, typer.Argument(help="A cluster file, as in configs/cluster.", metavar="FILE")]


@cluster_app.command("init", epilog="Example: ptm cluster init slurm > mine.yaml")
def init(kind: Annotated[str, typer.Argument(help="local, ray, kuberay or slurm.", metavar="KIND")]) -> None:
    """Print a cluster file that names every field, with its default and what it means."""
    from ptm_dist.clusters.render import template

    sys.stdout.write(template(kind))


@cluster_app.command("check", epilog="Example: ptm cluster check mine.yaml")
def check(file: FileArgument) -> None:
    """Look at everything that a job needs there; each line passes or says what to do."""
    from ptm_dist.clusters.files import load_cluster

    fine = True
    for finding in load_cluster(file).check():
        out.print(f"{'ok  ' if finding.fine else 'FIX '} {finding.text}", markup=False)
        fine = fine and finding.fine
    if not fine:
        raise typer.Exit(1)


@cluster_app.command("render", epilog="Example: ptm cluster render configs/cluster/kuberay.yaml --to launch")
def render(
    file: FileArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder in which the files are written.")] = Path("launch"),
) -> None:
    """Write the files that set the cluster up, and say which are new or changed."""
    from ptm_dist.clusters.files import load_cluster
    from ptm_dist.clusters.render import render as write
    from ptm_dist.clusters.render import stale

    cluster = load_cluster(file)
    written = write(cluster, to)
    for done in written:
        out.print(f"{done.change:7}  {done.path}", markup=False)
    for path in stale(cluster, to):
        out.print(f"stale    {path}: no longer rendered; remove it", markup=False)
    if not written:
        out.print(f"a cluster of kind {cluster.kind} needs no files")
