"""A trial as programs read it: from `hub partners test --json`, and from the HTTP API."""

from __future__ import annotations

from collections.abc import Sequence

from hub.domain.trials import Trial
from schemas.models.channels import StepAnswer, TrialAnswer


def trial_answers(trials: Sequence[Trial]) -> list[TrialAnswer]:
    return [
        TrialAnswer(
            channel=one.channel,
            notice=one.notice,
            well=one.is_well,
            steps=[
                StepAnswer(name=step.name, state=step.state.value, fr=step.fr, en=step.en, cause=step.cause)
                for step in one.steps
            ],
        )
        for one in trials
    ]
