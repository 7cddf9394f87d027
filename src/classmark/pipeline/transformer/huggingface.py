"""A fitted transformer as a folder that Transformers loads without any code of ours.

No text class of Transformers takes the mean of BERT's token vectors. The classifier of UltraVBert
puts a linear head on the mean, or on the first, of the vectors of any text model; its image part,
a few numbers, is never run. Decision 0050 says what else was tried.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classmark.errors import InvalidConfig, ParityFailed
from classmark.export import render_card
from classmark.export.onnx import Network, torch_logits
from classmark.kernels.calibration import softmax
from classmark.papers import normalise
from classmark.pipeline.export import Candidate, RunToExport, card_facts
from classmark.pipeline.run_folder import without_folders
from classmark.pipeline.transformer.export import Prepared, draw_sample, prepare
from classmark.records import BundleFile, BundleManifest, EvaluationReport, TransformerPart
from classmark.storage import atomic_folder, sha256_file
from classmark.training.transformer.encoder import quiet_transformers

TOLERANCE = 1e-4
"""Largest difference of a probability between the pipeline and the run; 1e-6 is usual."""
POOLINGS = ("mean", "cls")
COMPARED_PAPERS = 64
_BATCH = 8
_EDGES = (("", "a"), ("On", ""), ("Word", "word " * 4000))
_NO_IMAGES = {
    "model_type": "siglip_vision_model",
    "vision_use_head": False,
    "num_hidden_layers": 0,
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "num_channels"), 1),
    **dict.fromkeys(("image_size", "patch_size"), 1),
}
_SPECIAL = {
    "pad_token": ("[PAD]", "<pad>"),
    "unk_token": ("[UNK]", "<unk>"),
    "cls_token": ("[CLS]", "<s>"),
    "sep_token": ("[SEP]", "</s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
_METRICS = {"top_1": "accuracy", "top_3": "top-3", "top_5": "top-5", "macro_f1": "f1", "ece": "ece"}
_USE = """## Use

```python
from transformers import pipeline

classify = pipeline("text-classification", model="FOLDER", top_k=3)
paper = {"text": "The title", "text_pair": "The abstract."}
classify(paper, truncation="only_second")
```

This needs transformers 5.21 or later and no other code. The text is the title ("" if there is
none), and its pair is the abstract (" " if there is none). The scores are calibrated
probabilities. The folder has neither classmark's policy (abstaining, cross-lists, prediction sets)
nor its normaliser, which spells LaTeX and Unicode as words: if a text has any, pass title and
abstract through `classmark.papers.normalise` first."""
_FACTS = ("labels", "tokens", "text recipe, featuriser", "temperature", "dataset", "fitted")


def open_network(run: RunToExport) -> Prepared:
    """Return the network of a run that Transformers has a class for.

    Raises:
        InvalidConfig: it has none for its pooling or its encoder.
        RunCorrupt: a file of the run is missing or damaged.
        MissingExtra: the packages of ``[deep]`` are not installed.
    """
    pooling = run.record.part_as(TransformerPart).pooling
    if pooling not in POOLINGS:
        raise InvalidConfig(
            f"--format hf: no class of Transformers has model.pooling={pooling}. Export a bundle, "
            f"or train with model.pooling={POOLINGS[0]} or {POOLINGS[1]}."
        )
    prepared = prepare(run)
    encoder: Any = prepared.network.module.encoder
    kind = encoder.config.model_type
    if kind != "bert" and getattr(encoder, "pooler", None) is not None:
        raise InvalidConfig(
            f"--format hf: an encoder of type {kind!r} also gives a pooled vector, which the class "
            "that has our pooling does not take. Export a bundle, or fit an encoder without one "
            "(of BERT's, DistilBERT's or ELECTRA's type)."
        )
    return prepared


def write_folder(
    run: RunToExport,
    output: Path,
    network: Network,
    candidate: Candidate,
    bundle: BundleManifest,
    report: EvaluationReport,
) -> BundleManifest:
    """Write the folder and return the manifest with its files instead of those of a bundle.

    Args:
        run: of the network.
        output: the folder.
        network: of what ``open_network`` returned.
        candidate: what the run contributes to a bundle in fp32.
        bundle: what a bundle in fp32 without a curve would say of the run.
        report: of the test split.

    Raises:
        ParityFailed: the pipeline of Transformers does not give the probabilities of the run.
        StorageFailed: it cannot be written.
    """
    temperature = bundle.policy.temperature
    run.progress.step("writing the folder for Transformers")
    with atomic_folder(output, overwrite=run.options.overwrite) as folder, quiet_transformers():
        _make_model(network, bundle.labels, temperature).save_pretrained(folder)
        _make_tokenizer(network).save_pretrained(folder)
        card = _render_readme(run, candidate, bundle, report)
        (folder / "README.md").write_text(card, encoding="utf-8")
        run.progress.step("comparing its answers with those of the run")
        _, sample = draw_sample(run.source, bundle.labels)
        papers = [*sample.papers[:COMPARED_PAPERS], *_EDGES]
        check_pipeline(folder, network, bundle.labels, papers, temperature)
        files = _finish_files(folder)
    return replace(bundle, files=files, provenance={})


def _finish_files(folder: Path) -> dict[str, BundleFile]:
    """Return what is in the folder, readable as the card is: safetensors hides its files."""
    mode = (folder / "README.md").stat().st_mode
    files = {}
    for path in sorted(folder.iterdir()):
        path.chmod(mode)
        files[path.name] = BundleFile(sha256=sha256_file(path), bytes=path.stat().st_size)
    return files


def check_pipeline(
    folder: Path,
    network: Network,
    labels: tuple[str, ...],
    papers: list[tuple[str, str]],
    temperature: float,
) -> float:
    """Return the largest difference of a probability between the folder's pipeline and a network.

    Papers whose title fills more than half of the length are left out: ours cuts the title then,
    that of Transformers cuts nothing but the abstract.

    Raises:
        ParityFailed: it is more than ``TOLERANCE``.
    """
    from transformers import pipeline

    make: Any = pipeline
    classify = make("text-classification", model=str(folder), device="cpu", top_k=None)
    longest_title = network.tokenizer.max_length // 2 - 1
    texts = [(normalise(title), normalise(abstract)) for title, abstract in papers]
    titles = classify.tokenizer([title for title, _ in texts], add_special_tokens=False)
    kept = [i for i, ids in enumerate(titles["input_ids"]) if len(ids) <= longest_title]
    given = classify(
        # An empty pair would be taken for none.
        [{"text": texts[i][0], "text_pair": texts[i][1] or " "} for i in kept],
        truncation="only_second",
        batch_size=_BATCH,
    )
    expected, _ = softmax(torch_logits(network, [papers[i] for i in kept]), temperature)
    difference = float(np.abs(_by_label(given, labels) - expected).max())
    if not difference <= TOLERANCE:  # so that NaN fails too
        raise ParityFailed(
            f"the pipeline of Transformers differs from the run by {difference:.2g} in a "
            f"probability, more than {TOLERANCE:g}. Report this with the versions of torch and "
            "transformers, and export a bundle meanwhile."
        )
    return difference


def _by_label(answers: list[list[dict[str, Any]]], labels: tuple[str, ...]) -> NDArray[np.float64]:
    rows = [{ranked["label"]: ranked["score"] for ranked in answer} for answer in answers]
    return np.array([[row[label] for label in labels] for row in rows], dtype=np.float64)


def _make_model(network: Network, labels: tuple[str, ...], temperature: float) -> Any:
    """Return the model of Transformers; its head is divided by the temperature."""
    import torch
    from transformers import UltraVBertConfig, UltraVBertForSequenceClassification

    fitted: Any = network.module
    numbered = dict(enumerate(labels))
    make_config: Any = UltraVBertConfig
    config = make_config(
        text_config=_text_config(fitted.encoder.config.to_dict()),
        vision_config=_NO_IMAGES,
        pixel_shuffle_factor=1,
        image_token_id=-1,  # no token is one of an image
        classifier_pooling=fitted.pooling,
        id2label=numbered,
        label2id={label: number for number, label in numbered.items()},
    )
    model = UltraVBertForSequenceClassification(config).eval()
    of_encoder = fitted.encoder.state_dict()
    of_encoder = {k: v for k, v in of_encoder.items() if not k.startswith("pooler.")}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # the image part too, so that the same run gives the same file
        model.model.text_model.load_state_dict(of_encoder)
        model.classifier.weight.copy_(fitted.head.weight / temperature)
        model.classifier.bias.copy_(fitted.head.bias / temperature)
    return model


def _text_config(encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the encoder as a part of the whole.

    BERT gives a pooled vector too, which the whole does not take. ELECTRA is BERT without it.
    """
    of_its_folder = ("_name_or_path", "architectures", "transformers_version")
    text = {key: value for key, value in encoder.items() if key not in of_its_folder}
    if text["model_type"] == "bert":
        text |= {"model_type": "electra", "embedding_size": text["hidden_size"]}
    return {"rms_norm_eps": 1e-6, **text}  # of the image part


def _make_tokenizer(network: Network) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer.from_buffer(network.tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    special = {
        name: token
        for name, choices in _SPECIAL.items()
        for token in choices
        if tokenizer.token_to_id(token) is not None
    }
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    make: Any = PreTrainedTokenizerFast
    return make(
        tokenizer_object=tokenizer,
        model_max_length=network.tokenizer.max_length,
        model_input_names=inputs if network.reads_types else inputs[::2],
        **special,
    )


def _render_readme(
    run: RunToExport, candidate: Candidate, bundle: BundleManifest, report: EvaluationReport
) -> str:
    """Return the card of a bundle without its policy, below the metadata that the hub reads."""
    part = run.record.part_as(TransformerPart)
    facts = card_facts(run, candidate, bundle)
    name = without_folders(part.encoder.name)
    facts = {"kind": f"{name} encoder, {part.pooling} pooling"} | {
        key: facts[key] for key in _FACTS
    }
    measured = {key: value for key, value in report.metrics.items() if key in _METRICS}
    body = render_card(
        f"{bundle.name} {bundle.version}",
        replace(report, metrics=measured),
        facts,
        f"{_USE}\n\n{run.options.about}",
    )
    return f"---\n{_metadata(run, bundle, report)}\n---\n\n{body}"


def _metadata(run: RunToExport, bundle: BundleManifest, report: EvaluationReport) -> str:
    """Return the YAML of the card: library, task, labels, numbers."""
    from huggingface_hub import EvalResult, ModelCardData

    encoder = run.record.part_as(TransformerPart).encoder
    results = [
        EvalResult(
            task_type="text-classification",
            dataset_type="classmark",
            dataset_name=run.source.dataset.name,
            dataset_split="test",
            dataset_revision=run.record.dataset_digest,
            metric_type=kind,
            metric_name=name,
            metric_value=round(report.metrics[name].value, 4),
        )
        for name, kind in _METRICS.items()
        if name in report.metrics
    ]
    of_hub = encoder.source in ("hub", "cache")
    is_arxiv = bundle.label_space == "arxiv"
    data = ModelCardData(
        model_name=f"{bundle.name} {bundle.version}",
        library_name="transformers",
        pipeline_tag="text-classification",
        base_model=encoder.name if of_hub else None,
        language="en" if is_arxiv else None,
        tags=["classmark", *(["arxiv"] if is_arxiv else [])],
        eval_results=results,
    )
    return str(data.to_yaml())
