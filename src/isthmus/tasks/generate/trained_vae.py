"""A trained VAE loaded from its run folder, with the names of its labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file

from isthmus.engine.device import device_for
from isthmus.engine.run_folder import RunFolder
from isthmus.errors import UserError, nearest_name
from isthmus.tasks import load_recipe
from isthmus.tasks.generate.module import vae_for
from isthmus.tasks.generate.recipe import GenerateRecipe
from isthmus.tasks.generate.vae_on_arrays import VAEOnArrays

NO_LABEL = "none"
"""The name of the unconditional label, unless a class has it."""


@dataclass(frozen=True)
class TrainedVAE:
    """A VAE with the names of its labels and the recipe that it was trained by."""

    vae: VAEOnArrays
    class_names: tuple[str, ...]
    recipe: GenerateRecipe

    @property
    def knows_unconditional(self) -> bool:
        """Whether it was also trained with the unconditional label."""
        return self.recipe.model.label_dropout > 0

    def labels_named(self, names: Sequence[str]) -> list[int]:
        """The labels with these names; ``NO_LABEL`` is the unconditional label.

        Raises:
            UserError: If the model has no label of a name.
        """
        known = (*self.class_names, NO_LABEL) if self.knows_unconditional else self.class_names
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise UserError(
                f"label {unknown}: this model has none of that name; {nearest_name(unknown, known)}"
            )
        return [known.index(name) for name in names]

    def label_if_unknown(self, *, is_decoded_with: bool) -> int:
        """The label to condition on for an image whose label is not known.

        Args:
            is_decoded_with: Whether the decoder and the prior are conditioned on it too, besides
                the encoder.

        Raises:
            UserError: If the result would depend on the label.
        """
        model = self.recipe.model
        if model.encoder_is_conditioned:
            raise UserError(
                "--true is missing: the encoder of this model (model.condition_on = "
                f"{model.condition_on!r}) is conditioned on the label of an image; name the label"
            )
        if is_decoded_with and self.knows_unconditional:
            return self.vae.network.unconditional_label
        if is_decoded_with and (model.decoder_is_conditioned or model.prior_is_conditioned):
            raise UserError(
                f"--true is missing: this model (model.condition_on = {model.condition_on!r}, model.prior = "
                f"{model.prior!r}) is conditioned on the label of an image and has no unconditional label "
                "(model.label_dropout = 0); name the label"
            )
        return 0  # any: nothing is conditioned on it


def load_vae(run: Path) -> TrainedVAE:
    """The VAE of a finished run.

    Raises:
        UserError: If the folder holds no weights, or those of another kind of network or version.
    """
    weights = RunFolder(run).weights
    if not weights.is_file():
        raise UserError(
            f"{run}: holds no {weights.name}: a model is the folder of a finished run; "
            "name one, such as studies/NAME/runs/VARIANT/seed-0"
        )
    with safe_open(weights, framework="pt") as file:
        metadata = file.metadata()
    about = json.loads(metadata["isthmus"])
    recipe = load_recipe(about["recipe"])
    if not isinstance(recipe, GenerateRecipe):
        raise UserError(
            f'{run}: holds a network of task = "{recipe.task}", which draws no images; '
            'name a run of task = "generate"'
        )
    class_names = tuple(about["class_names"])
    network = vae_for(recipe, len(class_names))
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise UserError(
            f"{weights}: these weights do not fit the network that their recipe builds now: another "
            "version of isthmus has written them; train the run again, or use that version"
        ) from error
    network.eval().requires_grad_(requires_grad=False)
    device = device_for("cpu", recipe.train.precision)
    return TrainedVAE(VAEOnArrays(network, device), class_names, recipe)
