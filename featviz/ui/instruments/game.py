"""The game: in each of ten rounds, the visitor guesses which of two pictures activates a channel more. `game.js` draws it."""

import logging
import random
from collections.abc import Sequence
from typing import Any

import gradio as gr
from PIL import Image

from featviz.errors import InputError
from featviz.networks.table import FASTEST, split
from featviz.runtime import atlas
from featviz.runtime.exploration import Exploration
from featviz.runtime.game import FIXED, ROUNDS, Peaks, Round, Tally, kind_of, rounds
from featviz.ui import text
from featviz.ui.instruments.lesson import SIZE, small
from featviz.ui.instruments.server_functions import instead, picture_of
from featviz.ui.runs import enlarged, thumbnail
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import data_url

PICTURES, PLAYED = tuple(map(str, sorted((atlas.FOLDER / "pictures").glob("*.webp")))), 8
"""The pictures of the atlas, and how many of them a game uses beside the visitor's own."""

MOST_SEED = 10**6

logger = logging.getLogger(__name__)


class Game:
    """The component, and the functions that its script calls."""

    def __init__(self, engine: Engine):
        self.engine, self.tally = engine, Tally()
        self._layers = [layer for layer in atlas.sheets() if split(layer)[0] == FASTEST]
        self._known: dict[str, Peaks] = {}
        """The peaks of pictures of the atlas."""
        self.html = instead("game", self.game_rounds, self.game_answers)

    def add_tab(self) -> None:
        """Add the text of the tab."""
        gr.Markdown(text.label("game_intro"), elem_classes="prose-block")

    def game_rounds(self, sent: Any) -> dict:
        """Return a game. `sent`: {"picture", "seed"}.

        "fixed" says whether it is the one that everybody plays first; "variant", in which rounds which kind is shown.
        """
        seed = sent.get("seed")
        if not (isinstance(seed, int) and 0 <= seed <= MOST_SEED):
            raise InputError(f"seed is no whole number from 0 to {MOST_SEED}.")
        own = [picture_of(sent)] if sent.get("picture") else []
        files, played = self.play(seed, own)
        variant = random.randrange(2)
        return {
            "fixed": seed == FIXED and not own,
            "variant": variant,
            "pictures": [data_url(small(file)) for file in files],
            "rounds": [
                {
                    "layer": split(it.layer)[1],
                    "channel": it.channel,
                    **_shown(it, kind_of(number, variant), files),
                    "pictures": it.pictures,
                    "activations": it.activations,
                }
                for number, it in enumerate(played)
            ],
        }

    def game_answers(self, sent: Any) -> dict:
        """Count the answers to the fixed rounds, and return those of all visitors: {kind: [right answers, all answers]}.

        `sent`: {"variant", "chosen": for each round 0 for the first picture or 1, or null to count nothing}.
        """
        chosen, variant = sent.get("chosen"), sent.get("variant")
        if chosen is not None:
            if not (isinstance(chosen, list) and len(chosen) == ROUNDS and all(it in (0, 1) for it in chosen)):
                raise InputError(f"chosen is not {ROUNDS} times 0 or 1.")
            if variant not in (0, 1):
                raise InputError("variant is neither 0 nor 1.")
            _, played = self.play(FIXED, [])
            self.tally.add(variant, [choice == it.answer for choice, it in zip(chosen, played, strict=True)])
            logger.info("Fixed rounds of the game, right of all answers: %s", self.tally.by_round())
        return self.tally.by_kind()

    def play(self, seed: int, own: Sequence[str]) -> tuple[list[str], list[Round]]:
        """Return the files of a game's pictures, and its rounds. `own`: the file of the visitor's picture, if there is one."""
        files = [*own, *random.Random(seed).sample(PICTURES, PLAYED)]
        missing = [file for file in files if file not in self._known]
        peaks = dict(self._known)
        if missing:
            first, *others = missing
            recipe = Exploration(layer=self._layers[0], size=SIZE)
            found = self.engine.peak_activations(recipe, self._layers, others, image=first)
            peaks |= zip(missing, found, strict=True)
            self._known |= {file: peaks[file] for file in missing if file not in own}
        made = {layer: atlas.sheets()[layer].peaks for layer in self._layers}
        return files, rounds([peaks[file] for file in files], made, seed, own=bool(own))


def _shown(played: Round, kind: str, files: Sequence[str]) -> dict[str, str]:
    """Return what is shown of a round's channel, and its kind. No patch is of a picture of the round, since that gives the answer away."""
    natural = _patch(played, files) if kind == "natural" else None
    return {
        "kind": "natural" if natural else "optimised",
        "thumbnail": data_url(natural or thumbnail(played.layer, played.channel)),
    }


def _patch(played: Round, files: Sequence[str]) -> Image.Image | None:
    """Return the patch of another natural picture that activates the channel most."""
    found, in_round = atlas.patches(played.layer), {files[i] for i in played.pictures}
    patches = found.channels[played.channel] if found else ()
    return next((enlarged(patch.picture()) for patch in patches if str(patch.file) not in in_round), None)
