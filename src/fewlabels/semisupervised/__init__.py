"""Semi-supervised objectives by name: a loss over labelled and unlabelled images at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabels.semisupervised.entropy_minimisation import EntropyMinimisationConfig
from fewlabels.semisupervised.fixmatch import FixMatchConfig
from fewlabels.semisupervised.label_propagation import LabelPropagationConfig
from fewlabels.semisupervised.ladder import LadderConfig
from fewlabels.semisupervised.mean_teacher import MeanTeacherConfig
from fewlabels.semisupervised.message_passing import MessagePassingConfig
from fewlabels.semisupervised.mixmatch import MixMatchConfig
from fewlabels.semisupervised.pi_model import PiModelConfig
from fewlabels.semisupervised.pseudo_label import PseudoLabelConfig
from fewlabels.semisupervised.virtual_adversarial import VirtualAdversarialConfig

SEMISUPERVISED: Mapping[str, type[Any]] = {
    "entropy_minimisation": EntropyMinimisationConfig,
    "fixmatch": FixMatchConfig,
    "label_propagation": LabelPropagationConfig,
    "ladder": LadderConfig,
    "mean_teacher": MeanTeacherConfig,
    "message_passing": MessagePassingConfig,
    "mixmatch": MixMatchConfig,
    "pi_model": PiModelConfig,
    "pseudo_label": PseudoLabelConfig,
    "virtual_adversarial": VirtualAdversarialConfig,
}
"""From objective name to its settings class; ``settings.build(task)`` builds it, and
``settings.views`` says how the unlabelled images are to be changed for it."""
