"""Callbacks of a staged run: what is shown, and what is written down, while it trains."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from recipes.parts.display import Display
from recipes.parts.importance import Choice, Importance, draw_importance, importance_table
from recipes.parts.learning_rate_finder import LearningRateCurve, draw_learning_rates
from recipes.parts.names import printable
from recipes.parts.run_folder import append_line, complete_or_absent, write_json
from recipes.parts.stage_events import StageCallback, StageResult, StageStart
from recipes.parts.stages import Stage


class ShowStages(StageCallback):
    """Tell a `Display` how far the run is.

    Args:
        display: Where to show it.
    """

    def __init__(self, display: Display) -> None:
        super().__init__()
        self.display = display
        self.epoch = 0

    def on_stage_begin(self, start: StageStart) -> None:
        """Say what trains."""
        self.start = start
        share = start.trainable_parameters / start.parameters
        self.display.say(
            f"stage {start.stage.name}: trains {_span(start.blocks)}, {start.trainable_parameters:,} of "
            f"{start.parameters:,} parameters ({share:.1%}), learning rate {start.stage.learning_rate:g}"
        )
        self.display.begin_stage(start.index)

    def on_blocks_chosen(self, stage: Stage, importance: Importance, choice: Choice) -> None:
        """Show what each block is asked for."""
        self.display.say(f"stage {stage.name}: what {importance.images} training images ask of each block")
        self.display.show(importance_table(importance, choice))

    def on_learning_rate_found(self, stage: Stage, curve: LearningRateCurve) -> None:
        """Say which."""
        if curve.found:
            self.display.say(f"  learning rate {stage.learning_rate:.2g}, found in {len(curve.rates)} steps")
        else:
            when = "at once" if curve.diverged else "at no rate"
            self.display.say(f"  the loss broke away {when}: the learning rate stays {stage.learning_rate:g}")

    def on_frozen_layers(self, note: str) -> None:
        """Say whether frozen layers run once."""
        if note:
            self.display.say(f"  {note}")

    def on_frozen_progress(self, done: int, total: int) -> None:
        """Show how far the frozen layers are."""
        self.display.note(self.start.index, f"frozen layers: {done:,} of {total:,} images")

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Remember the epoch."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar."""
        self.display.end_batch(self.start.index, self.epoch + (batch + 1) / self.start.steps_per_epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Show the epoch's numbers."""
        self.display.end_epoch(self.start.index, epoch + 1, logs or {})

    def on_stage_end(self, result: StageResult) -> None:
        """Say which epoch was kept."""
        self.display.end_stage(self.start.index, result.epochs)
        kept = f"kept epoch {result.best_epoch}" if result.best_epoch else "no epoch was better: kept what was"
        loss = "" if result.validation_loss is None else f", validation loss {result.validation_loss:.4f}"
        everything = self.start.stage.unfreeze == "all" and self.start.stage.batch_norm == "trained"
        proof = "" if everything else "; frozen weights unchanged, bit for bit"
        self.display.say(f"  {kept} of {result.epochs}{loss}, {result.seconds:.1f} s{proof}")


class WriteHistory(StageCallback):
    """Add a line to a file for every epoch.

    Args:
        path: A file of JSON lines.
        already: Stages of a run that goes on, as far as they came. The file will hold their epochs, and no others.
    """

    def __init__(self, path: Path, already: Sequence[StageResult] = ()) -> None:
        super().__init__()
        self.path = path
        with complete_or_absent(path) as beside:
            beside.touch()
            for result in already:
                for epoch, logs in enumerate(result.history, 1):
                    append_line(beside, {"stage": result.name, "epoch": epoch, **logs})

    def on_stage_begin(self, start: StageStart) -> None:
        """Remember the stage."""
        self.stage = start.stage.name

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the line."""
        append_line(self.path, {"stage": self.stage, "epoch": epoch + 1, **(logs or {})})


class WriteChoices(StageCallback):
    """Write down, and draw, what was measured for a stage before it began.

    Args:
        folder: Of the run. Files are `importance.json`, `learning_rate-<stage>.json`, and figures of the same names.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def on_blocks_chosen(self, stage: Stage, importance: Importance, choice: Choice) -> None:
        """Write what each block is asked for."""
        write_json(self.folder / "importance.json", {**importance.to_json(), "choice": asdict(choice)})
        title = f"What the training images ask of each block before stage {printable(stage.name)}"
        draw_importance(self.folder / "importance.png", importance, choice, title=title)

    def on_learning_rate_found(self, stage: Stage, curve: LearningRateCurve) -> None:
        """Write the loss at each learning rate."""
        name = f"learning_rate-{re.sub(r'[^A-Za-z0-9_-]', '_', stage.name)}"
        write_json(self.folder / f"{name}.json", curve.to_json())
        title = f"Loss against learning rate before stage {printable(stage.name)}"
        draw_learning_rates(self.folder / f"{name}.png", curve, title=title)


def _span(blocks: tuple[str, ...]) -> str:
    """Names of neighbouring blocks, shortened to the first and the last."""
    if not blocks:
        return "nothing"
    return ", ".join(blocks) if len(blocks) <= 3 else f"{blocks[0]} to {blocks[-1]} ({len(blocks)} blocks)"
