"""The Hugging Face folder: what is in it, who can read it, and what it may replace."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, RobertaForMaskedLM

from ptm_dist.data.batch import HeadSpec
from ptm_dist.data.vocabulary import Vocabulary
from ptm_dist.errors import ConfigError, DataIntegrityError, DataUnavailableError, StorageError
from ptm_dist.models.interop import LAYOUTS, folder
from ptm_dist.models.interop.folder import MARK, read_folder, write_folder
from ptm_dist.models.roberta import Roberta

SETTINGS = Roberta(layers=2, hidden=12, heads=3, intermediate=20, positions=14, dropout=0.2, norm_eps=1e-6)
VOCABULARY = Vocabulary(size=71, begin=0, pad=1, end=2, unknown=3, mask=70)
ROBERTA = LAYOUTS["roberta"]
WORDS = "roberta.embeddings.word_embeddings.weight"


def random_weights() -> dict[str, Tensor]:
    backbone = SETTINGS.backbone(VOCABULARY)
    heads = nn.ModuleDict({"masked_lm": SETTINGS.head(HeadSpec("masked_lm"), backbone, VOCABULARY)})
    parameters = nn.ModuleDict({"backbone": backbone, "heads": heads}).named_parameters()
    draw = torch.Generator().manual_seed(0)
    stored = {name: weight[: getattr(weight, "stored_rows", None)] for name, weight in parameters}
    return {name: torch.randn(weight.shape, generator=draw) for name, weight in stored.items()}


@pytest.fixture
def weights():
    return random_weights()


@pytest.fixture
def exported(weights):
    return ROBERTA.to_hugging_face(weights, SETTINGS, VOCABULARY)


@pytest.fixture
def tokenizer_folder(tmp_path):
    made = tmp_path / "tokenizer"
    made.mkdir()
    for name in ("tokenizer.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json", "vocabulary.json"):
        (made / name).write_text("{}")
    (made / "merges.txt").write_text("#version: 0.2\n")
    (made / "log.bin").write_text("not for export")
    return made


@pytest.fixture
def write(tmp_path, exported, tokenizer_folder):
    """Write the export into a folder of that name and return its path."""

    def write_into(name: str, card: str = "# A model\n"):
        write_folder(tmp_path / name, *exported, tokenizer_folder, card)
        return tmp_path / name

    return write_into


class TestRoberta:
    def test_round_trip_is_bit_equal(self, weights, exported):
        weights["backbone.positions.weight"][3] = -0.0
        config, tensors = exported
        settings, back = ROBERTA.from_hugging_face(json.loads(json.dumps(config)), tensors)
        assert settings == SETTINGS
        assert_bit_equal(back, weights)
        config_again, tensors_again = ROBERTA.to_hugging_face(back, settings, VOCABULARY)
        assert config_again == config
        assert_bit_equal(tensors_again, tensors)

    def test_config(self, exported):
        config, tensors = exported
        assert config["architectures"] == ["RobertaForMaskedLM"]
        assert (config["max_position_embeddings"], config["type_vocab_size"], config["layer_norm_eps"]) == (16, 1, 1e-6)
        assert (config["bos_token_id"], config["pad_token_id"], config["eos_token_id"], config["vocab_size"]) == (0, 1, 2, 71)
        assert config["dtype"] == "float32"
        assert not tensors["roberta.embeddings.token_type_embeddings.weight"].any()

    def test_keeps_the_dtype(self, weights):
        config, tensors = ROBERTA.to_hugging_face({name: w.bfloat16() for name, w in weights.items()}, SETTINGS, VOCABULARY)
        assert config["dtype"] == "bfloat16"
        assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}

    def test_classifier_heads_stay_behind(self, weights, exported):
        weights["heads.pairs-nsp.classify.weight"] = torch.ones(2, 12)
        _, tensors = ROBERTA.to_hugging_face(weights, SETTINGS, VOCABULARY)
        assert tensors.keys() == exported[1].keys()

    def test_export_names_what_is_wrong(self, weights):
        del weights["backbone.norm.bias"], weights["heads.masked_lm.project.bias"]
        weights["backbone.segments.weight"] = torch.ones(2, 12)
        weights["backbone.words.weight"] = torch.ones(128, 12)
        with pytest.raises(ConfigError) as caught:
            ROBERTA.to_hugging_face(weights, SETTINGS, VOCABULARY)
        for part in (
            "backbone.norm.bias is missing",
            "heads.masked_lm.project.bias is missing",
            "backbone.segments.weight is unknown",
            "backbone.words.weight is [128, 12], expected [71, 12]",
        ):
            assert part in str(caught.value)

    def test_import_names_what_is_wrong(self, exported):
        config, tensors = exported
        del tensors["lm_head.bias"], tensors["roberta.encoder.layer.1.output.dense.weight"]
        tensors["roberta.encoder.layer.2.output.dense.bias"] = torch.ones(12)
        tensors["roberta.embeddings.token_type_embeddings.weight"] = torch.ones(2, 12)
        with pytest.raises(ConfigError) as caught:
            ROBERTA.from_hugging_face(config, tensors)
        for part in (
            "lm_head.bias is missing",
            "roberta.encoder.layer.1.output.dense.weight is missing",
            "roberta.encoder.layer.2.output.dense.bias is unknown",
            "roberta.embeddings.token_type_embeddings.weight is [2, 12], expected [1, 12]",
        ):
            assert part in str(caught.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"hidden_act": "relu"}, "hidden_act is 'relu', must be 'gelu'"),
            ({"model_type": "bert"}, "model_type is 'bert', must be 'roberta'"),
            ({"type_vocab_size": 2}, "type_vocab_size is 2, must be 1"),
            ({"pad_token_id": 0}, "pad_token_id is 0, must be 1"),
            ({"num_attention_heads": 5}, "hidden 12 is not a multiple of heads 5"),
            ({"hidden_dropout_prob": 1.5}, "dropout: Input should be less than 1"),
        ],
    )
    def test_import_refuses_other_models(self, exported, change, message):
        with pytest.raises(ConfigError, match=message):
            ROBERTA.from_hugging_face(exported[0] | change, exported[1])

    def test_what_config_does_not_say_is_what_transformers_takes(self, exported):
        """save_pretrained leaves out what is the default of the class."""
        config = {key: value for key, value in exported[0].items() if key not in ("hidden_dropout_prob", "initializer_range", "is_decoder")}
        assert ROBERTA.from_hugging_face(config, exported[1])[0] == SETTINGS.model_copy(update={"dropout": 0.1})
        config = {key: value for key, value in exported[0].items() if key != "type_vocab_size"}
        with pytest.raises(ConfigError, match="type_vocab_size is 2, must be 1"):
            ROBERTA.from_hugging_face(config, exported[1])

    def test_import_drops_what_old_files_hold_twice_or_in_vain(self, weights, exported):
        config, tensors = exported
        old = {
            "lm_head.decoder.weight": tensors[WORDS].clone(),
            "lm_head.decoder.bias": tensors["lm_head.bias"].clone(),
            "roberta.pooler.dense.weight": torch.ones(12, 12),
            "roberta.embeddings.position_ids": torch.arange(16)[None],
        }
        assert_bit_equal(ROBERTA.from_hugging_face(config, tensors | old)[1], weights)
        with pytest.raises(ConfigError, match=r"lm_head\.decoder\.weight differs from"):
            ROBERTA.from_hugging_face(config, tensors | {"lm_head.decoder.weight": tensors[WORDS] + 1})

    @pytest.mark.parametrize(
        ("settings", "vocabulary", "message"),
        [
            (SETTINGS.model_copy(update={"activation": "relu"}), VOCABULARY, "model.activation is 'relu'"),
            (SETTINGS, Vocabulary(71, begin=1, pad=0, end=2, unknown=3, mask=70), "pad is 0"),
        ],
    )
    def test_export_refuses_what_transformers_would_compute_otherwise(self, weights, settings, vocabulary, message):
        with pytest.raises(ConfigError, match=message):
            ROBERTA.to_hugging_face(weights, settings, vocabulary)


class TestFolder:
    def test_transformers_opens_it(self, write, exported, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        config, tensors = exported
        loaded, report = AutoModelForMaskedLM.from_pretrained(write("model"), output_loading_info=True)
        assert isinstance(loaded, RobertaForMaskedLM)
        assert not any(report.values()), report
        direct = RobertaForMaskedLM(type(loaded.config)(**config)).eval()
        direct.load_state_dict(tensors, strict=False)
        tokens = torch.tensor([[0, 9, 70, 8, 2], [0, 5, 2, 1, 1]])
        with torch.no_grad():
            assert torch.equal(loaded.eval()(tokens, tokens != 1).logits, direct(tokens, tokens != 1).logits)

    def test_reads_what_transformers_writes(self, write, tmp_path, weights):
        AutoModelForMaskedLM.from_pretrained(write("model")).save_pretrained(tmp_path / "theirs", max_shard_size="5KB")
        assert len(list((tmp_path / "theirs").glob("*.safetensors"))) > 1
        settings, back = ROBERTA.from_hugging_face(*read_folder(tmp_path / "theirs"))
        assert settings == SETTINGS
        assert_bit_equal(back, weights)

    def test_read_gives_back_what_was_written(self, write, exported):
        config, tensors = read_folder(write("model"))
        assert config == exported[0]
        assert_bit_equal(tensors, exported[1])

    def test_files(self, write):
        model = write("model", "# Card ü\n")
        tokenizer_files = {"tokenizer.json", "vocab.json", "tokenizer_config.json", "special_tokens_map.json", "merges.txt"}
        found = {path.name: path.stat().st_mode & 0o777 for path in model.iterdir()}
        assert found.keys() == {"config.json", "model.safetensors", "README.md", MARK} | tokenizer_files
        assert len(set(found.values())) == 1, f"all files have the usual mode: {found}"
        assert (model / "README.md").read_text(encoding="utf-8") == "# Card ü\n"
        assert (model / "merges.txt").read_text() == "#version: 0.2\n"

    def test_equal_exports_are_equal_files(self, write):
        one, two = ({path.name: path.read_bytes() for path in write(name).iterdir()} for name in ("one", "two"))
        assert one == two

    def test_tensors_are_read_without_pickle(self, write, exported):
        path = write("model") / "model.safetensors"
        with safe_open(path, "numpy") as file:
            assert file.metadata() == {"format": "pt"}
            assert (file.get_tensor(WORDS) == exported[1][WORDS].numpy()).all()
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        assert header.keys() - {"__metadata__"} == exported[1].keys()

    def test_views_of_padded_tables_are_written_cut(self, tmp_path, exported, tokenizer_folder):
        config, tensors = exported
        padded = torch.cat([tensors[WORDS], torch.full((57, 12), 9.0)])
        write_folder(tmp_path / "model", config, tensors | {WORDS: padded[:71]}, tokenizer_folder, "")
        assert_bit_equal(read_folder(tmp_path / "model")[1], tensors)

    def test_an_earlier_export_is_replaced(self, write, tmp_path):
        write("model", "old")
        assert (write("model", "new") / "README.md").read_text() == "new"
        assert leftovers(tmp_path) == []

    def test_an_empty_directory_is_filled(self, write, tmp_path):
        (tmp_path / "model").mkdir()
        assert (write("model") / "config.json").exists()

    def test_parents_are_made(self, write):
        assert (write("a/b/model") / "config.json").exists()

    def test_a_link_is_followed(self, write, tmp_path):
        (tmp_path / "link").symlink_to(write("model", "old"), target_is_directory=True)
        write("link", "new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "model" / "README.md").read_text() == "new"

    def test_other_files_are_never_replaced(self, write, tmp_path):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "config.json").write_text("{}")
        with pytest.raises(ConfigError, match=r"mine holds files that no export wrote \(config\.json\)"):
            write("mine")
        assert (tmp_path / "mine" / "config.json").read_text() == "{}"

    def test_an_export_with_notes_added_is_not_replaced(self, write):
        (write("model", "old") / "notes.md").write_text("dear diary")
        with pytest.raises(ConfigError, match=r"notes\.md"):
            write("model")

    def test_a_file_is_not_replaced(self, write, tmp_path):
        (tmp_path / "model").write_text("text")
        with pytest.raises(ConfigError, match="model is a file"):
            write("model")

    @pytest.mark.parametrize("before", [None, "old"])
    def test_a_crash_leaves_what_was_there(self, write, tmp_path, monkeypatch, before):
        if before:
            write("model", before)

        def fail(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(folder, "save_file", fail)
        with pytest.raises(KeyboardInterrupt):
            write("model", "new")
        assert (tmp_path / "model").exists() == bool(before)
        assert not before or (tmp_path / "model" / "README.md").read_text() == before
        assert leftovers(tmp_path) == []

    def test_leftovers_of_killed_exports_do_no_harm(self, write, tmp_path):
        for name in (f".model.{os.getpid()}.tmp", ".model.old"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "junk").write_text("half")
        write("model")
        assert leftovers(tmp_path) == []
        assert not (tmp_path / "model" / "junk").exists()

    def test_no_tokenizer(self, exported, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataUnavailableError, match="no tokenizer files"):
            write_folder(tmp_path / "model", *exported, tmp_path / "empty", "")
        assert not (tmp_path / "model").exists()

    def test_unwritable_place(self, exported, tokenizer_folder, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageError, match="a part of the path is a file"):
            write_folder(tmp_path / "file" / "model", *exported, tokenizer_folder, "")

    def test_disk_full_while_writing_tensors(self, write, monkeypatch):
        def fail(*_: object, **__: object) -> None:
            raise folder.SafetensorError("I/O error: No space left on device (os error 28)")

        monkeypatch.setattr(folder, "save_file", fail)
        with pytest.raises(StorageError, match=r"model\.safetensors: I/O error: No space left"):
            write("model")

    def test_read_says_what_is_wrong(self, write, tmp_path):
        with pytest.raises(DataUnavailableError, match=r"there is no model\.safetensors"):
            read_folder(tmp_path)
        model = write("model")
        (model / "model.safetensors").write_bytes(b"half")
        with pytest.raises(DataIntegrityError, match=r"model\.safetensors: cannot be read"):
            read_folder(model)


def leftovers(path) -> list[str]:
    return [entry.name for entry in path.iterdir() if entry.name.startswith(".")]


def assert_bit_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype, name
        assert tensor.numpy().tobytes() == other[name].numpy().tobytes(), name
