"""The metric card of a run: what it holds, and when a run counts as judged."""

from __future__ import annotations

import json
from pathlib import Path

from ldmlab.apps.cli.main import main


def measured(run: Path) -> list[str]:
    """What the card of a run says that was measured."""
    names: list[str] = json.loads((run / "card.json").read_text())["measured"]
    return names


def test_card_of_bits_per_dim_alone_is_judged_by_train(stored_run: Path) -> None:
    assert measured(stored_run) == ["judge"]
    (stored_run / "card.json").unlink()
    numbers = ["bits_per_dim.num_samples=2", "bits_per_dim.terms=2"]
    main(["evaluate", f"run={stored_run}", "metrics=[bits_per_dim]", *numbers])
    assert measured(stored_run) == ["bits_per_dim"]
    runs = stored_run.parents[2]
    train = ["train", f"config={stored_run / 'config.yaml'}", f"paths.runs={runs}"]
    main(train)
    assert measured(stored_run) == ["bits_per_dim", "judge"]
    assert "bits_per_dim" in json.loads((stored_run / "card.json").read_text())["metrics"]
    # Judged: the same command judges nothing again.
    card = (stored_run / "card.json").read_bytes()
    main(train)
    assert (stored_run / "card.json").read_bytes() == card
