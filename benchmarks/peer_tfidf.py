"""TF-IDF under a linear head or boosted trees (scikit-learn, XGBoost); saved as plain arrays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peer_kinds import SEED, Job, Rows, Scorer, Scores, as_text

Words = Callable[[Rows], list[str]]
TFIDF: dict[str, Any] = {"ngram_range": (1, 2), "min_df": 3, "max_features": 100_000}
TFIDF |= {"sublinear_tf": True}
SEED_TFIDF: dict[str, Any] = {"ngram_range": (1, 3), "min_df": 5, "max_df": 0.715}
SEED_TFIDF |= {"max_features": 10_000, "stop_words": "english"}
LOGISTIC = {"C": 10.0, "max_iter": 200, "tol": 1e-3}
SVC = {"C": 0.6}
MOST_ROUNDS = 3_000
XGB: dict[str, Any] = {"max_depth": 8, "learning_rate": 0.043, "early_stopping_rounds": 10}
XGB |= {"tree_method": "exact"}  # sparse columns: "hist" reaches the same loss 3.5 times slower


def fit_tfidf_logistic(job: Job, words: Words = as_text) -> dict[str, Any]:
    """Fit multinomial logistic regression on TF-IDF."""
    from sklearn.linear_model import LogisticRegression

    return _fit_tfidf_linear(job, LogisticRegression(**LOGISTIC), LOGISTIC, words)


def fit_tfidf_svc(job: Job, words: Words = as_text) -> dict[str, Any]:
    """Fit one linear support vector machine a category on TF-IDF."""
    from sklearn.svm import LinearSVC

    return _fit_tfidf_linear(job, LinearSVC(random_state=SEED, **SVC), SVC, words)


def _fit_tfidf_linear(
    job: Job, head: Any, settings: dict[str, Any], words: Words
) -> dict[str, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    job.watch.run()
    texts, labels = words(job.papers.rows("train")), job.papers.split("train").labels
    vectoriser = TfidfVectorizer(dtype=np.float32, **TFIDF)
    head.fit(vectoriser.fit_transform(texts), labels)
    _save_vectoriser(vectoriser, job.model)
    save_head(head, job)
    job.watch.pause()
    return {"tfidf": TFIDF, "features": len(vectoriser.vocabulary_), "head": settings}


def _save_vectoriser(vectoriser: Any, model: Path) -> None:
    words = sorted(vectoriser.vocabulary_, key=vectoriser.vocabulary_.__getitem__)
    (model / "vocabulary.json").write_text(json.dumps(words, ensure_ascii=False))
    np.save(model / "idf.npy", vectoriser.idf_.astype(np.float32))


def _load_vectoriser(model: Path, settings: dict[str, Any]) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = json.loads((model / "vocabulary.json").read_text())
    ours = {key: settings[key] for key in ("ngram_range", "sublinear_tf") if key in settings}
    stop = settings.get("stop_words")
    vectoriser = TfidfVectorizer(vocabulary=words, dtype=np.float32, stop_words=stop, **ours)
    vectoriser.idf_ = np.load(model / "idf.npy")
    return vectoriser


def save_head(head: Any, job: Job) -> None:
    """Write weights as float32, a column a label; a label without papers scores least."""
    k = len(job.papers.manifest.labels)
    weights = np.zeros((head.coef_.shape[1], k), dtype=np.float32)
    bias = np.full(k, head.intercept_.min() - 5, dtype=np.float32)
    weights[:, head.classes_], bias[head.classes_] = head.coef_.T, head.intercept_
    np.save(job.model / "weights.npy", weights)
    np.save(job.model / "bias.npy", bias)


def load_head(model: Path) -> Callable[[Any], Scores]:
    """Return what turns features [n, f] into scores [n, k]."""
    weights, bias = np.load(model / "weights.npy"), np.load(model / "bias.npy")
    return lambda x: np.asarray(x @ weights + bias, dtype=np.float32)


def load_tfidf_linear(model: Path, words: Words = as_text) -> Scorer:
    """Return the scores of a linear head on TF-IDF."""
    vectoriser, head = _load_vectoriser(model, TFIDF), load_head(model)
    return lambda rows: head(vectoriser.transform(words(rows)))


def fit_tfidf_xgboost(job: Job) -> dict[str, Any]:
    """Fit boosted trees on TF-IDF with the settings of the seed, stopped early on valid."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from xgboost import XGBClassifier

    job.watch.run()
    vectoriser = TfidfVectorizer(dtype=np.float32, **SEED_TFIDF)
    x = vectoriser.fit_transform(job.papers.texts("train"))
    trees = XGBClassifier(n_estimators=MOST_ROUNDS, random_state=SEED, **XGB)
    valid = (vectoriser.transform(job.papers.texts("valid")), job.papers.split("valid").labels)
    trees.fit(x, job.papers.split("train").labels, eval_set=[valid], verbose=False)
    trees.get_booster()[: trees.best_iteration + 1].save_model(job.model / "trees.ubj")
    _save_vectoriser(vectoriser, job.model)
    job.watch.pause()
    rounds = int(trees.best_iteration) + 1
    return {"tfidf": SEED_TFIDF, "features": x.shape[1], "trees": XGB, "rounds": rounds}


def load_tfidf_xgboost(model: Path) -> Scorer:
    """Return the margins of the trees."""
    from xgboost import Booster, DMatrix

    booster = Booster(model_file=str(model / "trees.ubj"))
    vectoriser = _load_vectoriser(model, SEED_TFIDF)

    def score(rows: Rows) -> Scores:
        x = DMatrix(vectoriser.transform(as_text(rows)))
        return np.asarray(booster.predict(x, output_margin=True), dtype=np.float32)

    return score
