"""Load a trained VAE from its run folder, with the names of its labels."""

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
"""The name of the null label, unless a class has the same name."""


@dataclass(frozen=True)
class TrainedVAE:
    """A trained VAE with the names of its labels and its recipe."""

    vae: VAEOnArrays
    class_names: tuple[str, ...]
    recipe: GenerateRecipe

    @property
    def knows_unconditional(self) -> bool:
        """Whether the VAE was also trained with the null label."""
        return self.recipe.model.label_dropout > 0

    def labels_named(self, names: Sequence[str]) -> list[int]:
        """The labels with these names; ``NO_LABEL`` is the name of the null label.

        Raises:
            UserError: If the model has no label with one of these names.
        """
        known = (*self.class_names, NO_LABEL) if self.knows_unconditional else self.class_names
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            raise UserError(
                f"label {unknown}: this model has no such label; {nearest_name(unknown, known)}"
            )
        return [known.index(name) for name in names]

    def label_if_unknown(self, *, is_decoded_with: bool) -> int:
        """The label to condition on for an image whose label is not known.

        Args:
            is_decoded_with: Whether the label conditions the decoder and the prior as well as the
                encoder.

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
                f"{model.prior!r}) is conditioned on the label of an image and was trained without label "
                "dropout (model.label_dropout = 0); name the label"
            )
        return 0  # any label: nothing is conditioned on it


def load_vae(run: Path) -> TrainedVAE:
    """The VAE of a finished run.

    Raises:
        UserError: If the folder has no weights, or weights of another task or another version.
    """
    weights = RunFolder(run).weights
    if not weights.is_file():
        raise UserError(
            f"{run}: this folder has no {weights.name}: a model is the folder of a finished run; "
            "name such a folder, for example studies/NAME/runs/VARIANT/seed-0"
        )
    with safe_open(weights, framework="pt") as file:
        about = json.loads((file.metadata() or {}).get("isthmus", "null"))
    if about is None:
        raise UserError(
            f"{weights}: its recipe cannot be read: another version of isthmus has written this file; "
            "train the run again, or use that version"
        )
    recipe = load_recipe(about["recipe"])
    if not isinstance(recipe, GenerateRecipe):
        raise UserError(
            f'{run}: this is a network of task = "{recipe.task}", which generates no images; '
            'name a run of task = "generate"'
        )
    class_names = tuple(about["class_names"])
    network = vae_for(recipe, len(class_names))
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise UserError(
            f"{weights}: these weights do not fit the network of their recipe: they were written by "
            "another version of isthmus; train the run again, or use that version"
        ) from error
    network.eval().requires_grad_(requires_grad=False)
    device = device_for("cpu", recipe.train.precision)
    return TrainedVAE(VAEOnArrays(network, device), class_names, recipe)
