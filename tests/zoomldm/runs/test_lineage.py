"""What was made with other weights than those at hand is refused, with the command that mends it."""

import re
from pathlib import Path

import pytest

from zoomldm.errors import UserError
from zoomldm.runs.lineage import Parent, require_autoencoder, require_latents, require_parent, require_zoomldm

OLD, NEW = "a" * 64, "b" * 64


def fits(recorded: Parent, given: Parent) -> bool:
    try:
        require_parent("autoencoder", child="x", recorded=recorded, given=given, mend="")
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    ("recorded", "given", "expected"),
    [
        (Parent("ae", OLD), Parent("ae", OLD), True),
        (Parent("ae", OLD), Parent("ae", NEW), False),
        (Parent("ae", OLD), Parent("renamed", OLD), True),
        (Parent(None, OLD), Parent("ae", NEW), False),
        (Parent("ae", None), Parent("ae", NEW), True),  # an earlier version: names are all there is
        (Parent("ae", None), Parent("other", NEW), False),
        (Parent(None, None), Parent("ae", NEW), True),
    ],
)
def test_weights_decide_and_names_only_where_weights_are_not_known(recorded, given, expected):
    assert fits(recorded, given) is expected


def test_latents_of_another_state_of_the_autoencoder_are_refused_with_the_command():
    facts = {"source": "ae", "autoencoder_sha256": OLD}
    with pytest.raises(UserError) as caught:
        require_latents(facts, root=Path("data/demo"), autoencoder=Parent("ae", NEW), command="`latents.py`")
    message = str(caught.value)
    assert "data/demo: its latent column" in message
    assert "other weights of its autoencoder ae" in message
    assert "which was trained on or made anew since; make it" in message
    assert "make it again with `latents.py`" in message
    with pytest.raises(UserError, match=re.escape("with the autoencoder ae (weights aaaaaaaaaaaa), not with b (weights")):
        require_latents(facts, root=Path("data/demo"), autoencoder=Parent("b", NEW), command="")


def test_a_zoomldm_is_decoded_by_the_weights_that_made_its_latents():
    require_autoencoder("z", {"autoencoder": OLD}, latent={"autoencoder_sha256": NEW}, autoencoder=Parent("ae", OLD))
    with pytest.raises(UserError, match=r"run z was made with other weights of its autoencoder ae.*latents\.py"):
        require_autoencoder("z", {"autoencoder": OLD}, latent=None, autoencoder=Parent("ae", NEW))


def test_a_checkpoint_without_parents_is_judged_by_the_manifest():
    latent = {"source": "ae", "autoencoder_sha256": OLD}
    require_autoencoder("z", {}, latent=latent, autoencoder=Parent("ae", OLD))
    with pytest.raises(UserError, match="trained on"):
        require_autoencoder("z", {}, latent=latent, autoencoder=Parent("ae", NEW))
    require_autoencoder("z", {}, latent=None, autoencoder=Parent("ae", NEW))


def test_an_edm_belongs_to_one_state_of_its_zoomldm():
    require_zoomldm("e", {"zoomldm": OLD}, learnt="z", zoomldm=Parent("z", OLD))
    require_zoomldm("e", {}, learnt="z", zoomldm=Parent("z", NEW))
    with pytest.raises(UserError, match=r"other weights of its ZoomLDM z.*model=edm zoomldm\.run=z fresh=true"):
        require_zoomldm("e", {"zoomldm": OLD}, learnt="z", zoomldm=Parent("z", NEW))
    with pytest.raises(UserError, match="with the ZoomLDM other"):
        require_zoomldm("e", {}, learnt="other", zoomldm=Parent("z", NEW))
