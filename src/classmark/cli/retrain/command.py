"""``classmark retrain``: whether a model is fitted again, doing it, and what became of it."""

from __future__ import annotations

import json
import time
from contextlib import chdir
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classmark.cli.dataset.extend import Journals, predictions_of
from classmark.cli.dataset.report import command_line
from classmark.cli.monitor.options import Kept, history_of
from classmark.cli.options import (
    AsJson,
    ColumnsOption,
    Overrides,
    columns_option,
    parse_source,
)
from classmark.cli.pipeline import PipelineCommand, config_of
from classmark.cli.places import ANYWHERE, COPY, AnyPlace
from classmark.cli.registry.options import Place as Registered
from classmark.cli.registry.options import open_registry
from classmark.cli.retrain import status as status_command
from classmark.cli.retrain.show import print_decision, words_of
from classmark.cli.retrain.status import Folder, Rules, folder_of
from classmark.cli.service.journal import existing_journal
from classmark.cli.train import require_training
from classmark.errors import CandidateRefused, ChangeRefused, UsageError
from classmark.records import utc_text

if TYPE_CHECKING:
    from classmark.dataset import ExtendConfig, NewPapers
    from classmark.journal.place import Place
    from classmark.pipeline.retraining import Retraining, RetrainRules, Shadowed
    from classmark.records import (
        Progress,
        RetrainOrder,
        RetrainState,
    )
    from classmark.registry import Registry
    from classmark.retrain import Orders, RetrainEvidence

_POLL_S = 1.0
_RUN_HELP = """Carry out the open order; without one, decide, and carry out a new order.

Extends the dataset, fits, exports and evaluates a model, gates and registers it. Then it scores
papers beside the champion (shadow), answers a share of the requests (canary), and takes over, or
not, by the rules. A service that follows the registry counts for both: this command does what can
be done now and returns; call it again, for example from cron every ten minutes, or give --wait.

\b
  classmark retrain run --dataset DIR --papers harvest/papers.jsonl --journal journal.sqlite
  classmark retrain run --dataset DIR --papers new.csv model.epochs=5 --wait

Safe to repeat at any time, also after a kill: finished steps are kept. Of two at once, one works.
If the folder has a params.yaml (`classmark pipeline init --folder DIR`), the keys come from there.
--rules is YAML with the groups policy, feedback and replacement:

\b
  policy: {cooldown_days: 120, least_papers: 1000, budget_hours: 24}
  feedback: {agree: 2}
  replacement: {shadow_papers: 500, percent: 5, rules: {requests: 1000, minutes: 10}}

Exit code 3 if the gate, the shadow or the canary refuses the new model.
"""

app = typer.Typer(
    name="retrain",
    help="Make a new model by order: from drift and new papers to a model that has taken over.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

app.command("status")(status_command.status)

Dataset = Annotated[
    Path | None,
    typer.Option(
        click_type=COPY,
        metavar="DIR",
        help="Dataset of the champion. Once an order has been promoted, its dataset is taken.",
    ),
]
Papers = Annotated[
    list[str] | None,
    typer.Option(
        "--papers", metavar="FILE", help="File of new papers with categories; may be repeated."
    ),
]
Asked = Annotated[
    str,
    typer.Option(
        "--why", metavar="TEXT", help="Ask for a model for this reason; no other cause is needed."
    ),
]
Lease = Annotated[
    AnyPlace | None,
    typer.Option(
        click_type=ANYWHERE,
        metavar="gs://...",
        help="Object that one run holds at a time, if machines share --folder over a mount.",
    ),
]


@dataclass(frozen=True)
class _Given:
    """What the options say that both commands take."""

    folder: Path | None
    registry: str | None
    dataset: Path | None
    papers: list[str] | None
    columns: str | None
    journal: list[str] | None
    history: Path | None
    rules: Path | None
    why: str


@dataclass(frozen=True)
class _Sources:
    """What both commands read."""

    orders: Orders
    registry: Registry
    champion: str
    dataset: Path
    new: NewPapers
    extend: ExtendConfig
    rules: RetrainRules
    journals: tuple[Place, ...]


@app.command()
def decide(
    *,
    folder: Folder = None,
    registry: Registered = None,
    dataset: Dataset = None,
    papers: Papers = None,
    columns: ColumnsOption = None,
    journal: Journals = None,
    history: Kept = None,
    rules: Rules = None,
    why: Asked = "",
    as_json: AsJson = False,
) -> None:
    """Say whether a new model is wanted, and why; nothing is started.

    Considers the newest report of `classmark monitor`, the age of the papers, new papers with a
    label, the time since the last order, the expected gain, and the budget.
    """
    require_training()
    from classmark.cli.progress import StepLines
    from classmark.retrain import Orders
    from classmark.retrain import decide as decision_of

    given = _Given(folder, registry, dataset, papers, columns, journal, history, rules, why)
    sources = _open(given, Orders(folder_of(folder)))
    with StepLines() as progress:
        evidence = _evidence(given, sources, progress)
    decision = decision_of(evidence, sources.rules.policy)
    if as_json:
        typer.echo(json.dumps({**decision.to_dict(), "new_papers": evidence.new_papers}))
    else:
        print_decision(decision)


@app.command(help=_RUN_HELP, cls=PipelineCommand)
def run(
    overrides: Overrides = None,
    *,
    folder: Folder = None,
    registry: Registered = None,
    dataset: Dataset = None,
    papers: Papers = None,
    columns: ColumnsOption = None,
    journal: Journals = None,
    history: Kept = None,
    rules: Rules = None,
    why: Asked = "",
    lease: Lease = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the order has ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Decide, and do of an order what can be done now."""
    require_training()
    from classmark.cli.progress import StepLines
    from classmark.pipeline.retraining import held
    from classmark.storage import is_remote

    if lease is not None and not is_remote(lease):
        raise UsageError(
            f"--lease {lease} is on this machine, where --folder is locked without it. Give "
            "gs://BUCKET/OBJECT, or leave it out."
        )
    given = _Given(folder, registry, dataset, papers, columns, journal, history, rules, why)
    with held(folder_of(folder), lease) as orders, StepLines() as progress:
        sources = _open(given, orders)
        task = _task(sources, overrides or [])
        opened = next((state for state in orders.all() if not state.outcome), None)
        order = opened or _order(given, sources, progress, as_json=as_json)
        if order is None:
            return
        state = _carry_out(task, sources, order, progress, wait=wait)
    _finish(state, as_json=as_json)


def _open(given: _Given, orders: Orders) -> _Sources:
    """Open what the options name; nothing is changed.

    Raises:
        ChangeRefused: the registry has no champion.
    """
    from classmark.dataset import ExtendConfig, NewPapers
    from classmark.journal.place import without_passwords
    from classmark.pipeline.retraining import current_dataset, read_retrain_rules

    rules = read_retrain_rules(given.rules)
    registry = open_registry(given.registry)
    champion = registry.pointer().channels.champion
    if champion is None:
        raise ChangeRefused(
            f"{registry.path} has no champion that a new model could replace. Make the first one "
            "with `classmark pipeline run` and `classmark registry promote`."
        )
    places = tuple(existing_journal(one) for one in given.journal or ())
    new = NewPapers(
        sources=[parse_source(source) for source in given.papers or []],
        feedback=(lambda: predictions_of(places)) if places else None,
        command=without_passwords(command_line()),
    )
    return _Sources(
        orders=orders,
        registry=registry,
        champion=champion,
        dataset=current_dataset(orders, given.dataset),
        new=new,
        extend=ExtendConfig(feedback=rules.feedback, columns=columns_option(given.columns).given),
        rules=rules,
        journals=places,
    )


def _evidence(given: _Given, sources: _Sources, progress: Progress) -> RetrainEvidence:
    from classmark.dataset import count_new
    from classmark.retrain import RetrainEvidence

    found = count_new(sources.dataset, sources.new, sources.extend, progress)
    history = history_of(given.history)
    return RetrainEvidence(
        at_utc=utc_text(),
        champion=sources.champion,
        fitted_until=found.fitted_until,
        new_papers=found.papers,
        newest_paper=found.newest,
        reports=tuple(history.reports(model=sources.champion, newest=1)),
        orders=sources.orders.all(),
        asked=given.why.strip(),
    )


def _order(
    given: _Given, sources: _Sources, progress: Progress, *, as_json: bool
) -> RetrainOrder | None:
    """Decide, and print that; return the order, if there is one."""
    from classmark.retrain import decide as decision_of

    decision = decision_of(_evidence(given, sources, progress), sources.rules.policy)
    if not as_json:
        print_decision(decision)
    elif decision.order is None:
        typer.echo(json.dumps({**decision.to_dict(), "state": None}))
    return decision.order


def _task(sources: _Sources, overrides: list[str]) -> Retraining:
    from classmark.pipeline.retraining import Retraining, located

    folder = sources.orders.folder
    with chdir(folder):
        config = located(config_of(overrides))
    return Retraining(
        dataset=sources.dataset,
        new=sources.new,
        extend=sources.extend,
        config=config,
        registry=sources.registry,
        replacement=sources.rules.replacement,
        shadowed=partial(_shadowed, sources.journals) if sources.journals else None,
    )


def _shadowed(journals: tuple[Place, ...], digest: str, since_utc: str) -> Shadowed:
    """Return how many papers the journals say that a bundle scored in the background."""
    from classmark.journal.reading import PredictionFilter, read_predictions
    from classmark.pipeline.retraining import Shadowed

    papers = same = 0
    for place in journals:
        for prediction in read_predictions(place, PredictionFilter(since_utc=since_utc)):
            compared = prediction.event.compared
            if compared is not None and compared.model.digest == digest:
                papers += 1
                same += compared.code == prediction.event.ranked[0][0]
    return Shadowed(papers, same)


def _carry_out(
    task: Retraining,
    sources: _Sources,
    order: RetrainOrder | RetrainState,
    progress: Progress,
    *,
    wait: bool,
) -> RetrainState:
    from classmark.pipeline.retraining import carry_out

    state = carry_out(sources.orders, task, order, progress)
    while wait and not state.outcome:
        time.sleep(_POLL_S)
        state = carry_out(sources.orders, task, state, progress)
    return state


def _finish(state: RetrainState, *, as_json: bool) -> None:
    """Print where an order is.

    Raises:
        CandidateRefused: the new model does not take over.
    """
    from classmark.pages.timeline import event_words

    last = event_words(state.events[-1])
    if as_json:
        typer.echo(json.dumps({**state.to_dict(), "outcome": state.outcome}))
    else:
        typer.echo(f"order {state.order.id}: {words_of(state)}  {last}".rstrip())
    if state.outcome in ("refused", "rolled_back"):
        raise CandidateRefused(
            f"the new model of order {state.order.id} does not take over: {last}"
        )
