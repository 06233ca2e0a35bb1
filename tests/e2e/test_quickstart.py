"""The quickstart as a newcomer runs it: without network, through Ray, to a model that transformers loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ptm_dist.events import read_events
from tests.tiny import command

CONFIG = Path(__file__).parent.parent.parent / "configs" / "quickstart.yaml"


def without_network(words):
    script = 'ip link set lo up 2>/dev/null || ifconfig lo up; exec "$@"'
    offline = ["unshare", "-rn", "sh", "-c", script, "sh", *words]
    can = subprocess.run(["unshare", "-rn", "true"], capture_output=True, check=False).returncode == 0
    return offline if can and Path("/sbin/ip").exists() else words


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quickstart_from_raw_text_to_a_model_that_transformers_loads(tmp_path):
    words = command("run", CONFIG, "--run", tmp_path / "run", "--cache", tmp_path / "cache")
    result = subprocess.run(without_network(words), capture_output=True, text=True, timeout=800, check=False, env=os.environ)
    assert result.returncode == 0, result.stderr
    measured = list(read_events(tmp_path / "run" / "events.jsonl", "evaluated"))[-1]
    assert measured["loss"] < measured["unigram_entropy"] - 0.2
    assert "Three words" in result.stdout
    check = (
        "import sys, torch; from transformers import AutoModelForMaskedLM, AutoTokenizer; "
        "m = AutoModelForMaskedLM.from_pretrained(sys.argv[1]); t = AutoTokenizer.from_pretrained(sys.argv[1]); "
        "x = t('Return the <mask> of the array.', return_tensors='pt'); print(m(**x).logits.shape[-1], t.mask_token_id)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", check, str(tmp_path / "run" / "export")], capture_output=True, text=True, check=True, env=os.environ
    )
    assert loaded.stdout.splitlines()[-1].split() == ["4096", "4095"]
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["name"] == "quickstart"
